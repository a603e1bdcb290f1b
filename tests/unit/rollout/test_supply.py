"""The supply: what a run commits doesn't depend on the order in which groups are filtered."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import make_job

from asynckit.errors import InputError
from asynckit.rollout.job import Job
from asynckit.rollout.prompting.prompt_stream import PromptStream
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.supply import Supply


def prompts(count: int) -> list[Prompt]:
    return [Prompt(index, f"prompt {index}", None, None, "", {}, "here") for index in range(count)]


JOB = make_job()


def supply(count: int, its: Job = JOB) -> Supply:
    return Supply(PromptStream(prompts(count), epochs=1, shuffle=False, seed=0), its)


def submitted_in_the_end(count: int, filtered: set[int], order: random.Random) -> list[str]:
    """Let groups end in some order; each that is filtered is replaced at once."""
    its = supply(count)
    number = {group.id: index for index, group in enumerate(its.groups)}
    waiting = list(its.groups)
    while waiting:
        group = waiting.pop(order.randrange(len(waiting)))
        if number[group.id] in filtered:
            new = its.more(1)
            number |= {each.id: len(number) + place for place, each in enumerate(new)}
            waiting += new
    return [group.id for group in its.groups]


@given(st.integers(1, 12), st.sets(st.integers(0, 30)), st.integers(0), st.integers(0))
def test_the_order_of_ends_makes_no_difference(count: int, filtered: set[int], one: int, two: int) -> None:
    """Two runs with other timings submit the same groups, each once."""
    first, second = (
        submitted_in_the_end(count, filtered, random.Random(seed))  # noqa: S311 - no secret depends on it
        for seed in (one, two)
    )
    assert first == second
    assert len(set(first)) == len(first)


def test_replacements_end_somewhere() -> None:
    """A reward that never differs must not keep a run going for ever."""
    its = supply(3, make_job("rollout.max_replacements=2"))
    assert len(its.more(5)) == 2
    assert its.more(1) == []


def test_more_than_the_prompts_goes_into_further_epochs() -> None:
    """With other ids and seeds, so that a prompt is not answered in the same way twice."""
    its = supply(2, make_job("rollout.total_rollout_steps=5"))
    assert [group.prompt.text for group in its.groups] == [f"prompt {index % 2}" for index in range(5)]
    assert len({group.id for group in its.groups}) == len({group.seed for group in its.groups}) == 5


def test_a_run_goes_on_with_what_it_had_submitted() -> None:
    """Also where it was cut off between a group that was filtered and its replacement."""
    before = supply(4)
    known = [group.id for group in (*before.groups, *before.more(2))]
    after = supply(4)
    after.restore(known, filtered=3)
    assert [group.id for group in after.groups][:6] == known
    assert len(after.groups) == 4 + 3


def test_other_prompts_are_refused() -> None:
    """A run is not continued with prompts that it was not begun with."""
    its = Supply(PromptStream(prompts(2)[::-1], epochs=1, shuffle=False, seed=0), JOB)
    with pytest.raises(InputError, match="not those of the run"):
        its.restore([group.id for group in supply(2).groups], filtered=0)
