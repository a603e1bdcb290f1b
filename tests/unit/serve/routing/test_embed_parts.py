"""Embedding calls in parts."""

from hypothesis import given
from hypothesis import strategies as st

from asynckit.serve.messages import Embed
from asynckit.serve.routing.embed_parts import parts


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 40))
def test_no_part_is_longer_than_it_must_be(lengths: list[int], most: int) -> None:
    """Every prompt is in one part, in order; parts have names of their own and few tokens."""
    prompts = tuple((number,) * length for number, length in enumerate(lengths))
    made = list(parts(Embed("e", "http-0.0", prompts, 1.0, 2.0), most))
    assert tuple(ids for part in made for ids in part.prompts_ids) == prompts
    assert len({part.id for part in made}) == len(made)
    for part in made:
        assert len(part.prompts_ids) <= 1 or sum(map(len, part.prompts_ids)) <= most
