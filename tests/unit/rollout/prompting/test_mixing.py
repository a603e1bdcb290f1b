"""Mixing: weights are kept at every point, nothing is lost, and nothing depends on the order of a mapping."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from asynckit.rollout.prompting.mixing import mixed_order

WEIGHTS = st.dictionaries(st.sampled_from("abcde"), st.floats(0.01, 100.0), min_size=1)


def test_an_order_in_full() -> None:
    """Small enough to check by hand: 2 to 1 while both last."""
    assert "".join(mixed_order({"a": 4, "b": 4}, {"a": 2.0, "b": 1.0})) == "abaababb"


@given(weights=WEIGHTS, data=st.data())
def test_every_source_comes_as_often_as_it_has_prompts(
    weights: dict[str, float], data: st.DataObject
) -> None:
    """An epoch loses and repeats nothing."""
    sizes = {name: data.draw(st.integers(0, 40)) for name in weights}
    assert Counter(mixed_order(sizes, weights)) == Counter(sizes)


@given(weights=WEIGHTS)
def test_every_beginning_keeps_the_weights(weights: dict[str, float]) -> None:
    """While no source has run out, none is further than (sources + 1) / 2 prompts from its share."""
    size, total = 200, sum(weights.values())
    seen: Counter[str] = Counter()
    for place, name in enumerate(mixed_order(dict.fromkeys(weights, size), weights), start=1):
        seen[name] += 1
        for other, weight in weights.items():
            assert abs(seen[other] - place * weight / total) <= (len(weights) + 1) / 2 + 1e-6
        if seen[name] == size:
            return


@given(weights=WEIGHTS)
def test_what_is_left_keeps_the_weights_too(weights: dict[str, float]) -> None:
    """A source that has run out does not change the order of the others among themselves."""
    sizes = {name: 5 * number for number, name in enumerate(weights, start=1)}
    gone = min(weights)
    rest = {name: weight for name, weight in weights.items() if name != gone}
    assert [name for name in mixed_order(sizes, weights) if name != gone] == list(
        mixed_order({name: sizes[name] for name in rest}, rest)
    )


@given(weights=WEIGHTS, data=st.data())
def test_the_order_of_a_mapping_means_nothing(weights: dict[str, float], data: st.DataObject) -> None:
    """Two configurations with one digest may list their sources differently."""
    turned = dict(data.draw(st.permutations(list(weights.items()))))
    sizes = dict.fromkeys(weights, 9)
    assert list(mixed_order(sizes, turned)) == list(mixed_order(sizes, weights))


def test_extreme_weights_are_only_weights() -> None:
    """The smallest and largest numbers there are neither break nor lose anything."""
    order = mixed_order({"a": 2, "b": 2, "c": 2}, {"a": 5e-324, "b": 1.7e308, "c": 1.0})
    assert "".join(order) == "bbccaa"
