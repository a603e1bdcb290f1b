"""Records as columns: many of them checked at once.

:func:`faults` finds the rows of an Arrow batch that may break what :func:`asynckit.rollout.record.check`
asserts, with a few array operations per batch instead of a loop over every token. ``check`` then says what is
wrong with those rows, so that there is one definition of a good record. :func:`token_ages` does the same for
staleness.
"""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from asynckit.rollout.record import FREE_FORM, STATUSES, Trajectory, arrow_schema

Rows = npt.NDArray[np.bool_]  # one for every row
Numbers = npt.NDArray[Any]

# What a record may lack; everything else is never null.
OPTIONAL = ("stop_reason", "min_version", "max_version", "consumed_version", "reward", "advantage")
_LISTS = ("prompt_ids", "response_ids", "response_mask", "logprobs")


@dataclass(frozen=True)
class Ragged:
    """A list column: its values end to end, and the row of each."""

    values: Any
    row_of: Numbers
    lengths: Numbers

    @classmethod
    def of(cls, batch: Any, name: str) -> "Ragged":
        """The column ``name`` of an Arrow batch; a null counts as empty."""
        column = batch.column(name)
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        return cls(column.flatten(), np.repeat(np.arange(len(column)), lengths), lengths)

    def field(self, name: str) -> Numbers:
        """A field of the values, which are structs."""
        return np.asarray(self.values.field(name).to_numpy(zero_copy_only=False))

    def numbers(self) -> Numbers:
        """The values; NaN for null."""
        return np.asarray(self.values.to_numpy(zero_copy_only=False))

    def rows_where(self, wrong: Rows) -> Rows:
        """The rows that have a value for which ``wrong`` holds."""
        found = np.zeros(len(self.lengths), dtype=bool)
        found[self.row_of[wrong]] = True
        return found


def as_batch(trajectories: list[Trajectory]) -> Any:
    """Trajectories as an Arrow batch.

    Raises:
        pyarrow.ArrowException, TypeError, ValueError: some value is not of its column's type.
    """
    rows = []
    for each in trajectories:
        row = dict(vars(each))
        for name in FREE_FORM:
            row[name] = json.dumps(row[name], ensure_ascii=False)
        row["engine"], row["timing"] = vars(each.engine), vars(each.timing)
        row["version_spans"] = [{"start": s, "end": e, "version": v} for s, e, v in each.version_spans]
        rows.append(row)
    return pa.RecordBatch.from_pylist(rows, schema=arrow_schema())


def incomplete(batch: Any) -> dict[int, str]:
    """The rows that hold null where a record has to have a value, and a column in which they do."""
    found: dict[int, str] = {}
    for name in batch.schema.names:
        column = batch.column(name)
        if name not in OPTIONAL and column.null_count:
            missing = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
            found.update((int(row), name) for row in missing)
        if name in (*_LISTS, "version_spans") and column.flatten().null_count:
            ragged = Ragged.of(batch, name)
            missing = ragged.row_of[ragged.values.is_null().to_numpy(zero_copy_only=False)]
            found.update((int(row), name) for row in missing)
    return found


def faults(batch: Any) -> Rows:
    """The rows that may not satisfy ``record.check``: all that do not, and none that does."""
    tokens, mask, logprobs = (Ragged.of(batch, name) for name in _LISTS[1:])
    bad = _bad_scalars(batch)
    uneven = (tokens.lengths != mask.lengths) | (tokens.lengths != logprobs.lengths)
    bad |= uneven
    bad |= mask.rows_where(~np.isin(mask.numbers(), (0, 1)))
    bad |= logprobs.rows_where(~np.isfinite(logprobs.numbers()))
    bad |= _bad_spans(batch, tokens.lengths)
    even = ~uneven[mask.row_of]
    outside = (mask.numbers()[even] == 0) & (logprobs.numbers()[~uneven[logprobs.row_of]] != 0)
    bad[mask.row_of[even][outside]] = True
    return bad


def _bad_scalars(batch: Any) -> Rows:
    known = pc.is_in(batch.column("status"), value_set=pa.array(STATUSES)).to_numpy(zero_copy_only=False)
    silent = pc.and_(pc.equal(batch.column("status"), "failed"), pc.equal(batch.column("error"), ""))
    bad = np.asarray(~known) | pc.fill_null(silent, True).to_numpy(zero_copy_only=False)
    for name in ("reward", "advantage"):
        finite = pc.fill_null(pc.is_finite(batch.column(name)), True)
        bad |= ~finite.to_numpy(zero_copy_only=False)
    return np.asarray(bad | _bad_components(batch.column("reward_components")))


def _bad_components(column: Any) -> Rows:
    """Rows whose reward components are not all finite; a component may be null."""
    offsets = column.offsets.to_numpy()
    finite = pc.fill_null(pc.is_finite(column.items), True).to_numpy(zero_copy_only=False)
    # Counted from the column's first value on: a slice keeps the values before it.
    before = np.concatenate([[0], np.cumsum(~finite)])
    return np.asarray(before[offsets[1:]] > before[offsets[:-1]])


def _bad_spans(batch: Any, lengths: Numbers) -> Rows:
    """Rows whose spans don't cover the response from end to end, or contradict the versions beside them."""
    spans = Ragged.of(batch, "version_spans")
    start, end, version = (spans.field(name) for name in ("start", "end", "version"))
    bad = (spans.lengths == 0) & (lengths > 0)
    if not len(start):
        return np.asarray(bad)
    bad |= spans.rows_where(~(start < end))
    inner = spans.row_of[1:] == spans.row_of[:-1]
    torn = np.zeros(len(start), dtype=bool)
    torn[1:] = inner & (end[:-1] != start[1:])
    bad |= spans.rows_where(torn)
    first = np.flatnonzero(np.concatenate([[True], ~inner]))
    last = np.concatenate([first[1:], [len(start)]]) - 1
    rows = spans.row_of[first]
    wrong = (start[first] != 0) | (end[last] != lengths[rows])
    for name, extreme in (("min_version", np.minimum), ("max_version", np.maximum)):
        recorded = batch.column(name).to_numpy(zero_copy_only=False)[rows]
        wrong |= recorded != extreme.reduceat(version, first)
    bad[rows[wrong]] = True
    return np.asarray(bad)


def going_back(batch: Any) -> Rows:
    """The rows in which a token was sampled by an older version than one before it."""
    spans = Ragged.of(batch, "version_spans")
    version = spans.field("version")
    back = np.zeros(len(version), dtype=bool)
    back[1:] = (spans.row_of[1:] == spans.row_of[:-1]) & (version[1:] < version[:-1])
    return spans.rows_where(back)


def token_ages(batch: Any) -> tuple[Counter[int], Numbers, Numbers]:
    """How many versions old the sampled tokens were when the learner took them.

    Args:
        batch: good rows only.

    Returns:
        tokens by age, over the rows that were taken; and for every row the least and the greatest age of its
        sampled tokens, 0 where there are none.
    """
    consumed = batch.column("consumed_version")
    least, most = (np.zeros(len(batch), dtype=np.int64) for _ in range(2))
    taken = pc.is_valid(consumed)
    indices = np.flatnonzero(taken.to_numpy(zero_copy_only=False))
    if not len(indices):
        return Counter(), least, most
    batch = batch.filter(taken)
    spans, mask = Ragged.of(batch, "version_spans"), Ragged.of(batch, "response_mask")
    version = np.repeat(spans.field("version"), spans.field("end") - spans.field("start"))
    age = batch.column("consumed_version").to_numpy()[mask.row_of] - version
    sampled = mask.numbers() == 1
    age, row_of = age[sampled], indices[mask.row_of[sampled]]
    np.minimum.at(least, row_of, age)
    np.maximum.at(most, row_of, age)
    ages, counts = np.unique(age, return_counts=True)
    return Counter(dict(zip(ages.tolist(), counts.tolist(), strict=True))), least, most
