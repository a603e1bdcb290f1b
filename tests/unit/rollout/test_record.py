"""Records: stable names, checked invariants, and round trips through both formats."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.errors import InputError
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.record import (
    SCHEMA,
    STATUSES,
    EngineInfo,
    Timing,
    Trajectory,
    arrow_schema,
    check,
    from_json,
    from_row,
    group_id,
    to_json,
    to_row,
    trajectory_uid,
)

PROMPT = Prompt(0, "2 + 3?", None, "5", "sums", {}, "f.jsonl:1")
ENGINE = EngineInfo("torch", "smollm2-135m-instruct", "abc")
EMPTY = Trajectory("u", "g", 0, "cancelled", [{"role": "user", "content": "?"}], "sums", ENGINE)
FULL = replace(
    EMPTY,
    status="completed",
    response_ids=[1, 2, 3],
    response_mask=[1, 0, 1],
    logprobs=[-0.5, 0.0, -1.0],
    version_spans=[(0, 1, 4), (1, 3, 5)],
    min_version=4,
    max_version=5,
    reward=1.0,
)


def through_arrow(*trajectories: Trajectory) -> list[Trajectory]:
    table = pa.Table.from_pylist([to_row(trajectory) for trajectory in trajectories], schema=arrow_schema())
    return [from_row(row) for row in table.to_pylist()]


texts = st.text(max_size=10)
numbers = st.floats(allow_nan=False, allow_infinity=False)
free_form = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    lengths = draw(st.lists(st.integers(1, 4), max_size=3))
    ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
    versions = [draw(st.integers(0, 2**40)) for _ in lengths]
    length = sum(lengths)
    mask = [draw(st.integers(0, 1)) for _ in range(length)]
    ids = st.lists(st.integers(0, 2**31 - 1), min_size=length, max_size=length)
    seconds = st.none() | numbers
    return Trajectory(
        uid=draw(texts),
        group_id=draw(texts),
        sample_index=draw(st.integers(0, 1000)),
        status=draw(st.sampled_from(STATUSES)),
        messages=draw(st.lists(st.fixed_dictionaries({"role": texts, "content": texts}), max_size=3)),
        data_source=draw(texts),
        engine=EngineInfo(draw(texts), draw(texts), draw(texts)),
        attempt=draw(st.integers(1, 5)),
        stop_reason=draw(st.none() | texts),
        prompt_ids=draw(st.lists(st.integers(0, 2**31 - 1), max_size=4)),
        response_ids=draw(ids),
        response_mask=mask,
        logprobs=[draw(st.floats(-50, 0, width=32)) if kept else 0.0 for kept in mask],
        version_spans=[(end - n, end, v) for n, end, v in zip(lengths, ends, versions, strict=True)],
        min_version=min(versions, default=None),
        max_version=max(versions, default=None),
        reward=draw(seconds),
        reward_components=draw(st.dictionaries(texts, numbers, max_size=3)),
        advantage=draw(seconds),
        ground_truth=draw(free_form),
        sampling=draw(st.dictionaries(texts, free_form, max_size=3)),
        turns=draw(st.integers(0, 9)),
        timing=Timing(*[draw(seconds) for _ in range(4)]),
        error=draw(texts.filter(bool)),
        extra=draw(st.dictionaries(texts, free_form, max_size=3)),
    )


@given(trajectories())
def test_records_survive_both_formats(trajectory: Trajectory) -> None:
    """What is written is what was sampled: every field, None and empty lists included."""
    check(trajectory)
    assert from_json(to_json(trajectory)) == trajectory
    assert through_arrow(trajectory) == [trajectory]
    assert "\n" not in to_json(trajectory)


def test_empty_and_full_records_share_a_table() -> None:
    """Columns keep their types when a part holds only empty values."""
    assert through_arrow(EMPTY) == [EMPTY]
    assert through_arrow(EMPTY, FULL) == [EMPTY, FULL]


def test_logprobs_of_the_engine_are_stored_exactly() -> None:
    """Engines compute logprobs in float32 or less; a learner compares them with its own."""
    value = float(np.float32(-0.1))
    record = replace(FULL, logprobs=[value, 0.0, value])
    assert through_arrow(record)[0].logprobs == record.logprobs


def test_schema_is_named_in_both_formats() -> None:
    """A reader can tell what it has before it reads."""
    assert arrow_schema().metadata[b"asynckit.schema"].decode() == SCHEMA
    assert json.loads(to_json(FULL))["schema"] == SCHEMA


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a trajectory"),
        ("[]", "not a trajectory"),
        ("{}", "the schema is missing"),
        ('{"schema": "asynckit.trajectory/9"}', "the schema is asynckit.trajectory/9"),
        (json.dumps({"schema": SCHEMA}), "not a trajectory"),
        (to_json(FULL).replace('"uid"', '"id"'), "not a trajectory"),
    ],
)
def test_other_lines_are_refused(line: str, message: str) -> None:
    """A file of another version or kind is an input error, at its line."""
    with pytest.raises(InputError, match=message) as caught:
        from_json(line, where="f:1")
    assert caught.value.where == "f:1"


def test_other_rows_are_refused() -> None:
    """The same for a row of another table."""
    with pytest.raises(InputError, match="not a trajectory"):
        from_row({"uid": "u"})


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "done"},
        {"status": "failed"},
        {"response_mask": [1, 0]},
        {"logprobs": [-0.5, 0.0]},
        {"logprobs": [-0.5, -0.1, -1.0]},
        {"logprobs": [float("nan"), 0.0, -1.0]},
        {"response_mask": [1, 0, 2]},
        {"version_spans": []},
        {"version_spans": [(0, 2, 4)]},
        {"version_spans": [(1, 3, 4)]},
        {"version_spans": [(0, 1, 4), (2, 3, 5)]},
        {"version_spans": [(0, 2, 4), (1, 3, 5)]},
        {"version_spans": [(0, 1, 4), (1, 1, 4), (1, 3, 5)]},
        {"max_version": 4},
        {"min_version": None},
        {"reward": float("inf")},
        {"reward_components": {"a": float("nan")}},
        {"messages": [{"role": "user"}]},
    ],
)
def test_broken_records_are_not_written(changes: dict[str, Any]) -> None:
    """A record that contradicts itself would poison whoever trains on it."""
    check(FULL)
    with pytest.raises(AssertionError):
        check(replace(FULL, **changes))


def test_names_are_stable() -> None:
    """Names are the same in every process and version: a resumed run recognises its samples by them."""
    assert group_id(PROMPT, 0, "digest") == "8ef7a10f831b38e8c6a7f6b05acb6d69"
    assert trajectory_uid(PROMPT, 0, 0, "digest") == "2c32bf64bf6d1be386f83bdb6cd73b8b"


@given(
    st.lists(st.tuples(texts, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), texts), unique=True)
)
def test_names_differ_wherever_samples_differ(keys: list[tuple[str, int, int, int, str]]) -> None:
    """Text, index in the run, sample index, seed and config each make another sample."""
    uids = {
        trajectory_uid(replace(PROMPT, text=text, index=i), n, seed, digest)
        for text, i, n, seed, digest in keys
    }
    assert len(uids) == len(keys)


def test_samples_of_a_group_share_its_name_and_nothing_else() -> None:
    """The same prompt at another index, or as a chat, is another group; its place in a file is no content."""
    chat = replace(PROMPT, text=None, messages=({"content": "2 + 3?", "role": "user"},))
    others = [replace(PROMPT, index=1), replace(PROMPT, ground_truth=5), chat]
    assert len({group_id(prompt, 0, "d") for prompt in [PROMPT, *others]}) == 4
    swapped = replace(chat, messages=({"role": "user", "content": "2 + 3?"},))
    assert group_id(chat, 0, "d") == group_id(swapped, 0, "d")
    assert group_id(PROMPT, 0, "d") == group_id(replace(PROMPT, where="elsewhere"), 0, "d")
