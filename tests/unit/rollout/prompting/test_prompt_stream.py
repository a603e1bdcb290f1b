"""The stream: every epoch holds every prompt once, and a position always has the same prompt."""

import pickle
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from asynckit.rollout.prompting.prompt_stream import PromptStream
from asynckit.rollout.prompting.prompts import Prompt, mixed

SIZES = st.dictionaries(st.sampled_from("abc"), st.integers(1, 12), min_size=1)
SEEDS = st.integers(0, 2**70)


def base(sizes: dict[str, int]) -> list[Prompt]:
    """One mixed epoch; prompts are named after their source and number."""
    found = {
        name: [Prompt(i, f"{name}{i}", None, None, "", {}, "", name) for i in range(size)]
        for name, size in sizes.items()
    }
    return mixed(found, {name: 1.0 + number for number, name in enumerate(sizes)}, None)


def epoch_of(stream: PromptStream, epoch: int, size: int) -> list[Prompt]:
    return [stream.at(position) for position in range(epoch * size, (epoch + 1) * size)]


@given(sizes=SIZES, seed=SEEDS)
def test_without_shuffling_every_epoch_is_the_base(sizes: dict[str, int], seed: int) -> None:
    """The first epoch is exactly what was read; later ones differ in their indices alone."""
    prompts = base(sizes)
    stream = PromptStream(prompts, epochs=3, shuffle=False, seed=seed)
    assert epoch_of(stream, 0, len(prompts)) == prompts
    assert len(stream) == 3 * len(prompts)
    assert [prompt.text for prompt in epoch_of(stream, 2, len(prompts))] == [p.text for p in prompts]


@given(sizes=SIZES, seed=SEEDS, shuffle=st.booleans(), epoch=st.integers(0, 5))
def test_every_epoch_is_a_permutation(sizes: dict[str, int], seed: int, shuffle: bool, epoch: int) -> None:
    """Nothing is lost or repeated within an epoch, further ones than asked for included."""
    prompts = base(sizes)
    found = epoch_of(PromptStream(prompts, epochs=1, shuffle=shuffle, seed=seed), epoch, len(prompts))
    assert Counter(prompt.text for prompt in found) == Counter(prompt.text for prompt in prompts)
    assert [prompt.index for prompt in found] == [epoch * len(prompts) + i for i in range(len(prompts))]


@given(sizes=SIZES, seed=SEEDS, epoch=st.integers(0, 5))
def test_shuffling_keeps_the_mix(sizes: dict[str, int], seed: int, epoch: int) -> None:
    """The weights hold in every epoch: a place goes on belonging to its source."""
    prompts = base(sizes)
    found = epoch_of(PromptStream(prompts, epochs=1, shuffle=True, seed=seed), epoch, len(prompts))
    assert [prompt.source for prompt in found] == [prompt.source for prompt in prompts]


@given(sizes=SIZES, seed=SEEDS, positions=st.lists(st.integers(0, 200), max_size=20))
def test_a_position_has_one_prompt_whatever_was_asked_before(
    sizes: dict[str, int], seed: int, positions: list[int]
) -> None:
    """A resumed run asks in another order, in another process, and gets the same."""
    prompts = base(sizes)
    used = PromptStream(prompts, epochs=1, shuffle=True, seed=seed)
    answers = [used.at(position) for position in positions]
    fresh = pickle.loads(pickle.dumps(used))  # noqa: S301 - our own bytes
    assert [fresh.at(position) for position in reversed(positions)] == answers[::-1]
    for position, answer in zip(positions, answers, strict=True):
        assert PromptStream(prompts, epochs=9, shuffle=True, seed=seed).at(position) == answer


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    """A hundred prompts never keep their order by chance."""
    prompts = base({"a": 100})
    orders = set()
    for seed in range(3):
        stream = PromptStream(prompts, epochs=1, shuffle=True, seed=seed)
        orders |= {tuple(prompt.text for prompt in epoch_of(stream, epoch, 100)) for epoch in range(3)}
    assert len(orders | {tuple(prompt.text for prompt in prompts)}) == 10


def test_the_shuffle_is_the_same_everywhere() -> None:
    """The very order, so that another machine, Python or release that changes it is noticed."""
    prompts = base({"a": 10})
    stream = PromptStream(prompts, epochs=2, shuffle=True, seed=7)
    assert "".join(str(stream.at(position).text)[1:] for position in range(20)) == "95423108768974506132"


def test_no_place_is_favoured() -> None:
    """Over many epochs every prompt is first about equally often: 600 of 3000, standard deviation 22."""
    stream = PromptStream(base({"a": 5}), epochs=1, shuffle=True, seed=0)
    firsts = Counter(stream.at(5 * epoch).text for epoch in range(3000))
    assert all(490 < count < 710 for count in firsts.values())
    assert len(firsts) == 5
