"""A run in a file that a trainer loads.

Rows are made while the run is read and written as they come, into a file that gets its name when it is whole.
Two formats are put together in memory first: verl's Parquet, whose columns are known only when all prompts
are, and slime's ``.pt``, which is one pickle.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from asynckit.disk import whole_file
from asynckit.errors import InputError, UsageError
from asynckit.near_miss import did_you_mean
from asynckit.readable import quiet_json
from asynckit.rollout.afterwards.export_rows import Row, slime_rows, trl_row, verl_row
from asynckit.rollout.afterwards.run_reader import FoundGroup, Run
from asynckit.rollout.record import Trajectory, to_json

SCHEMA = "asynckit.export/1"
_ROWS = 1024


@dataclass(frozen=True)
class Target:
    """Whom an export is for.

    Attributes:
        suffixes: of the files that it may be written to, the usual one first.
        statuses: of the samples that are exported unless others are asked for.
        scored: whether every sample needs a reward.
        whole_groups: whether a group is left out if one of its samples is.
    """

    suffixes: tuple[str, ...]
    statuses: tuple[str, ...] = ("completed", "truncated")
    scored: bool = False
    whole_groups: bool = False


TARGETS = {
    "verl": Target((".parquet", ".json")),
    "trl": Target((".parquet", ".jsonl")),
    # slime finds the samples of a group by their places: a group of another size shifts the rest.
    "slime": Target((".pt", ".jsonl"), scored=True, whole_groups=True),
    "jsonl": Target((".jsonl",), statuses=()),
}


@dataclass
class Exported:
    """What was written.

    Attributes:
        rows: lines or table rows.
        samples, groups: that are in them.
        left_out: samples that are not, by reason.
    """

    rows: int = 0
    samples: int = 0
    groups: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def to_dict(self, to: str, out: str) -> dict[str, Any]:
        """JSON-able, with the schema's name."""
        counts = {"rows": self.rows, "samples": self.samples, "groups": self.groups}
        return {"schema": SCHEMA, "to": to, "file": out, **counts, "left_out": dict(self.left_out)}


def target_of(to: str) -> Target:
    """The target of that name.

    Raises:
        UsageError: there is none.
    """
    if to not in TARGETS:
        mend = did_you_mean(to, TARGETS) or f"use one of {', '.join(TARGETS)}"
        raise UsageError(f"no trainer is called {to!r}", where="--to", mend=mend)
    return TARGETS[to]


def place_for(run: Run, to: str, out: str | None, *, overwrite: bool) -> Path | None:
    """The file to write; None for stdout.

    Raises:
        UsageError: it may not be written, or its name asks for a format that the trainer doesn't read.
    """
    target = target_of(to)
    if out == "-":
        return None
    path = Path(out).expanduser() if out else Path(f"{run.path.name}.{to}{target.suffixes[0]}")
    if path.suffix not in target.suffixes:
        mend = f"end the name in {' or '.join(target.suffixes)}"
        raise UsageError(f"{to} does not read files of this name", where=str(path), mend=mend)
    if path.is_dir() or not path.parent.is_dir():
        problem = "is a folder" if path.is_dir() else "its folder does not exist"
        raise UsageError(problem, where=str(path), mend="choose another --out")
    if run.path.resolve() in path.resolve().parents:
        mend = "a run's folder holds that run and nothing else; choose another --out"
        raise UsageError("is in the run's own folder", where=str(path), mend=mend)
    if not overwrite and (path.exists() or path.is_symlink()):
        mend = "replace it with --overwrite, or choose another --out"
        raise UsageError("the file exists", where=str(path), mend=mend)
    return path


def export(
    run: Run, to: str, path: Path | None, *, statuses: tuple[str, ...] | None, min_reward: float | None
) -> Exported:
    """Write the samples of a run for a trainer.

    Args:
        run: the run.
        to: one of ``TARGETS``.
        path: the file, from :func:`place_for`; None for JSON lines on stdout.
        statuses: of the samples to export; those that suit the trainer by default.
        min_reward: leave out samples with less than that.

    Raises:
        InputError: the run cannot be read, nothing is left to export, or its values don't fit the format.
        WorkFailed: the disk refuses.
    """
    target, exported = target_of(to), Exported()
    chosen = target.statuses if statuses is None else statuses

    def why_not(each: Trajectory) -> str:
        if chosen and each.status not in chosen:
            return each.status
        if each.reward is None and (target.scored or min_reward is not None):
            return "without a reward"
        if min_reward is not None and each.reward is not None and each.reward < min_reward:
            return "below the least reward"
        return ""

    groups = _chosen(run.groups(), why_not, exported, whole_groups=target.whole_groups)
    rows = _counted(_ROWS_FOR[to](groups), exported)
    if path is None:
        _to_stdout(rows)
    else:
        with whole_file(path) as file:
            _writer(to, path)(rows, file)
            _require_some(exported)
    _require_some(exported)
    return exported


def _require_some(exported: Exported) -> None:
    if not exported.rows:
        left = ", ".join(f"{count} {reason}" for reason, count in exported.left_out.items())
        raise InputError(
            f"no sample is left to export: {left or 'the run has none'}",
            where="--status, --min-reward",
            mend="ask for other samples; asynckit runs show says what there is",
        )


def _chosen(
    groups: Iterable[FoundGroup],
    why_not: Callable[[Trajectory], str],
    exported: Exported,
    *,
    whole_groups: bool,
) -> Iterator[list[Trajectory]]:
    """The samples to export, group by group; groups with none are passed over."""
    for group in groups:
        reasons = [why_not(each) for each in group.trajectories]
        kept = [each for each, reason in zip(group.trajectories, reasons, strict=True) if not reason]
        exported.left_out.update(filter(None, reasons))
        if whole_groups and len(kept) < len(group.trajectories):
            exported.left_out["in a group that is not whole"] += len(kept)
            continue
        if kept:
            exported.groups += 1
            exported.samples += len(kept)
            yield kept


def _counted(rows: Iterable[Row | str], exported: Exported) -> Iterator[Row | str]:
    for row in rows:
        exported.rows += 1
        yield row


def _for_slime(groups: Iterable[list[Trajectory]]) -> Iterator[Row]:
    first = 0
    for number, group in enumerate(groups):
        yield from slime_rows(group, number, first)
        first += len(group)


_ROWS_FOR: dict[str, Callable[[Iterable[list[Trajectory]]], Iterable[Row | str]]] = {
    "verl": lambda groups: (verl_row(group, number) for number, group in enumerate(groups)),
    "trl": lambda groups: (trl_row(each) for group in groups for each in group),
    "slime": _for_slime,
    "jsonl": lambda groups: (to_json(each) for group in groups for each in group),
}


def _writer(to: str, path: Path) -> Callable[[Iterable[Any], BinaryIO], None]:
    if path.suffix == ".pt":
        return _write_pickle
    if path.suffix == ".parquet":
        return _write_inferred if to == "verl" else _write_trl
    return _write_lines


def _line(row: Row | str) -> str:
    return row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, allow_nan=False)


def _to_stdout(rows: Iterable[Row | str]) -> None:
    on_terminal = sys.stdout.isatty()
    for row in rows:
        line = quiet_json(_line(row)) if on_terminal else _line(row)
        sys.stdout.buffer.write(line.encode() + b"\n")
    sys.stdout.buffer.flush()


def _write_lines(rows: Iterable[Row | str], file: BinaryIO) -> None:
    file.writelines(_line(row).encode() + b"\n" for row in rows)


def _write_pickle(rows: Iterable[Row], file: BinaryIO) -> None:
    """What slime's ``load_debug_rollout_data`` reads."""
    import torch

    torch.save({"rollout_id": 0, "samples": list(rows)}, file)


def _write_inferred(rows: Iterable[Row], file: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.write_table(pa.Table.from_pylist(list(rows)), file)
    except pa.ArrowException as error:
        raise InputError(
            f"the prompts' extra_info does not fit the columns of a Parquet file: {error}",
            where="--to verl",
            mend="write a file that ends in .json instead, which verl reads too",
        ) from error


def _write_trl(rows: Iterable[Row], file: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    messages = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    types = {
        **dict.fromkeys(("prompt", "completion"), messages),
        "input_ids": pa.list_(pa.int32()),
        "completion_mask": pa.list_(pa.int8()),
        "completion_logprobs": pa.list_(pa.float32()),
        **dict.fromkeys(("reward", "advantage"), pa.float64()),
        **dict.fromkeys(("ground_truth", "data_source", "group_id", "uid"), pa.string()),
    }
    schema, waiting = pa.schema(list(types.items())), iter(rows)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while some := list(islice(waiting, _ROWS)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))
