"""All runs under a folder, one entry each, also those that are being written or were killed."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asynckit.errors import InputError
from asynckit.readable import readable
from asynckit.rollout.afterwards.run_reader import Run, is_running, looks_like_run, may_read

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = "asynckit.runs/1"


@dataclass(frozen=True)
class RunEntry:
    """One run.

    Attributes:
        name: its folder, relative to the one that is listed.
        path: the folder, absolute.
        status: running, done, failed, interrupted, cut off, or damaged.
        model: name of the model.
        submitted: groups that the run set out to do.
        groups: how many have ended in each way.
        samples: records by status.
        mean_reward: over the samples that have a reward; None when none has.
        tokens_per_second: as the summary has it; None where there is none yet.
        begun: when ``config.json`` was written, ISO 8601 in UTC.
        bytes: of all its files.
        problem: why it is damaged; empty unless it is.
    """

    name: str
    path: str
    status: str
    model: str = ""
    submitted: int | None = None
    groups: dict[str, int] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    mean_reward: float | None = None
    tokens_per_second: float | None = None
    begun: str | None = None
    bytes: int = 0
    problem: str = ""

    @property
    def ended(self) -> int:
        """Groups that have ended."""
        return sum(self.groups.values())


def list_runs(folder: Path) -> list[RunEntry]:
    """The runs in a folder and the folders in it, the newest first; what may not be read is passed over.

    Raises:
        InputError: there is no such folder.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "there is no such folder"
        mend = "name the folder that has the runs; asynckit rollout writes into runs/"
        raise InputError(problem, where=str(folder), mend=mend)
    entries = [_entry(path, folder) for path in _runs_below(folder)]
    return sorted(entries, key=lambda entry: (entry.begun or "", entry.name), reverse=True)


def _runs_below(folder: Path) -> Iterator[Path]:
    for place, folders, _ in os.walk(folder):
        if not may_read(Path(place)):
            folders.clear()
        elif looks_like_run(Path(place)):
            folders.clear()
            yield Path(place)
        # Hidden folders are no runs: an earlier run that is being replaced has such a name.
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _entry(path: Path, folder: Path) -> RunEntry:
    name = path.name if path == folder else str(path.relative_to(folder))
    try:
        return _described(Run(path.absolute(), is_running(path)), name)
    except InputError as error:
        place = Path(error.where).name if error.where else ""
        problem = f"{place}: {error.message}" if place and place != path.name else error.message
        return RunEntry(
            name, str(path.absolute()), "damaged", begun=_begun(path), bytes=_size(path), problem=problem
        )


def _described(run: Run, name: str) -> RunEntry:
    settings = run.config()["config"]
    status = run.status()
    with run.ledger() as ledger:
        counts = ledger.counts()
        # In the ledger alone, where a run is being written or was killed.
        waiting = [each for group in ledger.uncommitted() for each in group.trajectories]
    summary = run.summary() if status not in ("running", "cut off") else None
    if summary:
        samples, mean = summary.get("samples", {}), summary.get("mean_reward")
    else:
        samples, mean = _counted(run, waiting)
    return RunEntry(
        name=name,
        path=str(run.path),
        status=status,
        model=str(settings.get("model", {}).get("name", "")),
        submitted=sum(n for state, n in counts.items() if not state.startswith("ended:")),
        groups={each.removeprefix("ended:"): n for each, n in counts.items() if each.startswith("ended:")},
        samples=dict(samples),
        mean_reward=mean,
        tokens_per_second=summary.get("tokens_per_second") if summary else None,
        begun=_begun(run.path),
        bytes=_size(run.path),
    )


def _counted(run: Run, waiting: list[Any]) -> tuple[dict[str, int], float | None]:
    """Samples by status and their mean reward, from the two columns that say so."""
    samples, total, scored = Counter[str](), 0.0, 0
    found = {each.uid: (each.status, each.reward) for each in waiting}
    for path in run.parts():
        for uid, status, reward in _statuses(path):
            found.pop(uid, None)  # the part was written after the ledger had been read
            samples[status] += 1
            total, scored = (total, scored) if reward is None else (total + reward, scored + 1)
    for status, reward in found.values():
        samples[status] += 1
        total, scored = (total, scored) if reward is None else (total + reward, scored + 1)
    return dict(samples), total / scored if scored else None


def _statuses(path: Path) -> Iterator[tuple[str, str, float | None]]:
    names = ("uid", "status", "reward")
    if path.suffix == ".jsonl":
        try:
            with path.open(encoding="utf-8") as file:
                for line in file:
                    record = json.loads(line)
                    yield tuple(record[name] for name in names)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(path, error) from error
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=list(names), partitioning=None)
        yield from zip(*(table.column(name).to_pylist() for name in names), strict=True)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"cannot be read: {str(error).splitlines()[0]}", where=str(path), mend="the file is damaged"
    )


def _begun(path: Path) -> str | None:
    try:
        written = (path / "config.json").stat().st_mtime
    except OSError:
        return None  # it is missing, which is said elsewhere
    return datetime.fromtimestamp(written, UTC).isoformat(timespec="seconds")


def _size(path: Path) -> int:
    total = 0
    for place, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - a Path per file is slow
            except FileNotFoundError:
                continue  # a running run has just renamed it
    return total


def to_dict(folder: Path, entries: list[RunEntry]) -> dict[str, Any]:
    """The listing, JSON-able."""
    return {"schema": SCHEMA, "folder": str(folder.absolute()), "runs": [asdict(each) for each in entries]}


def render(folder: Path, entries: list[RunEntry]) -> "Table":
    """The listing as a person reads it; times are local."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"runs in {readable(str(folder))}"), title_justify="left")
    for heading in ("name", "status", "model", "groups", "samples", "reward", "tokens/s", "begun", "size"):
        right = heading in ("groups", "reward", "tokens/s", "size")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for each in entries:
        samples = ", ".join(f"{count:,} {status}" for status, count in each.samples.items())
        begun = (
            "" if each.begun is None else f"{datetime.fromisoformat(each.begun).astimezone():%Y-%m-%d %H:%M}"
        )
        cells = (
            each.name,
            each.status,
            each.model,
            "" if each.submitted is None else f"{each.ended:,}/{each.submitted:,}",
            each.problem or samples,
            "" if each.mean_reward is None else f"{each.mean_reward:.4f}",
            "" if each.tokens_per_second is None else f"{each.tokens_per_second:,.1f}",
            begun,
            shown_size(each.bytes),
        )
        table.add_row(*(Text(readable(cell)) for cell in cells))
    return table


def shown_size(count: int) -> str:
    """Bytes with a unit a person likes, in powers of 1000."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
