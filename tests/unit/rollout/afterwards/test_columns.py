"""Checks on columns: they find the same rows as the rules for one record, and the same ages as a loop."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from asynckit.rollout.afterwards.columns import as_batch, faults, going_back, incomplete, token_ages
from asynckit.rollout.record import EngineInfo, Trajectory, arrow_schema, check, to_row

BLANK = Trajectory(
    "u", "g", 0, "completed", [{"role": "user", "content": "?"}], "sums", EngineInfo("", "", "")
)
numbers = st.sampled_from([0.0, -0.5, float("nan"), float("inf")])


@st.composite
def spans(draw: st.DrawFn, length: int) -> list[tuple[int, int, int]]:
    """Stretches that cover a response."""
    cuts = sorted(draw(st.sets(st.integers(1, max(1, length - 1)), max_size=3)))
    edges = [0, *(cut for cut in cuts if cut < length), length]
    found = [(a, b, draw(st.integers(0, 3))) for a, b in pairwise(edges)]
    return found if length else []


@st.composite
def good_records(draw: st.DrawFn) -> Trajectory:
    """Records that keep every rule."""
    length = draw(st.integers(0, 4))
    mask = [draw(st.sampled_from([0, 1, 1])) for _ in range(length)]
    versions = draw(spans(length))
    known = [version for *_, version in versions]
    return replace(
        BLANK,
        status=draw(st.sampled_from(["completed", "failed", "stale"])),
        error="no",
        response_ids=list(range(length)),
        response_mask=mask,
        logprobs=[-0.5 * bit for bit in mask],
        version_spans=versions,
        min_version=min(known, default=None),
        max_version=max(known, default=None),
        consumed_version=draw(st.sampled_from([None, 3, 4])),
        reward=draw(st.sampled_from([None, 1.0])),
        reward_components=draw(st.sampled_from([{}, {"a": 1.0}])),
    )


@st.composite
def records(draw: st.DrawFn) -> Trajectory:
    """Good records, and some with one thing changed that may break a rule."""
    good = draw(good_records())
    changes: list[dict[str, Any]] = [
        {},
        {"status": "finished"},
        {"status": "failed", "error": ""},
        {"response_mask": [2 for _ in good.response_mask]},
        {"response_mask": good.response_mask[1:]},
        {"logprobs": good.logprobs[1:]},
        {"logprobs": [-1.0 for _ in good.logprobs]},
        {"logprobs": [draw(numbers) for _ in good.logprobs]},
        {"version_spans": [(a, b + 1, v) for a, b, v in good.version_spans]},
        {"version_spans": [(a, a, v) for a, _, v in good.version_spans]},
        {"version_spans": good.version_spans[::-1]},
        {"version_spans": good.version_spans[1:]},
        {"version_spans": [*good.version_spans, (0, 1, 1)]},
        {"min_version": 7},
        {"max_version": None},
        {"reward": draw(numbers)},
        {"advantage": draw(numbers)},
        {"reward_components": {"a": 1.0, "b": draw(numbers)}},
    ]
    return replace(good, **draw(st.sampled_from(changes)))


def is_bad(record: Trajectory) -> bool:
    try:
        check(record)
    except AssertionError:
        return True
    return False


@settings(max_examples=300, deadline=None)
@given(st.lists(records(), min_size=1, max_size=6), st.integers(0, 2))
def test_faults_are_the_rows_that_break_the_rules(found: list[Trajectory], skipped: int) -> None:
    """No bad record slips through and no good one is suspected, whatever slice of a file it comes in."""
    whole = pa.RecordBatch.from_pylist([to_row(BLANK)] * skipped + list(map(to_row, found)), arrow_schema())
    assert faults(whole.slice(skipped)).tolist() == [is_bad(each) for each in found]


@settings(max_examples=200, deadline=None)
@given(st.lists(good_records(), min_size=1, max_size=6))
def test_ages_are_those_of_every_sampled_token(found: list[Trajectory]) -> None:
    """The histogram counts each sampled token of a taken sample once, with its own version."""
    ages = [
        [
            each.consumed_version - version
            for start, end, version in each.version_spans
            for place in range(start, end)
            if each.consumed_version is not None and each.response_mask[place]
        ]
        for each in found
    ]
    batch = as_batch(found)
    histogram, least, most = token_ages(batch)
    assert histogram == Counter(age for row in ages for age in row)
    assert most.tolist() == [max([0, *row]) for row in ages]
    assert least.tolist() == [min([0, *row]) for row in ages]
    back = [any(np.diff([version for *_, version in each.version_spans]) < 0) for each in found]
    assert going_back(batch).tolist() == back


def test_nulls_are_found_row_by_row() -> None:
    """A null where a value has to be is named; one that a record may have is not."""
    rows = [to_row(BLANK), {**to_row(BLANK), "uid": None}, {**to_row(BLANK), "logprobs": [None]}]
    assert incomplete(pa.RecordBatch.from_pylist(rows, arrow_schema())) == {1: "uid", 2: "logprobs"}
