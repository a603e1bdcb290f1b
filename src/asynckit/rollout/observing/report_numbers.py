"""What a report is made from, read once from a run's files: memory stays flat however long the run."""

import heapq
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from asynckit.errors import InputError
from asynckit.rollout.ledger import NAME as LEDGER
from asynckit.rollout.observing.metrics_log import NAME as METRICS
from asynckit.rollout.observing.series import Mean, Series
from asynckit.rollout.record import Trajectory, require_schema
from asynckit.rollout.run_directory import RunDirectory
from asynckit.rollout.sinks import part_paths, read_part

_EXAMPLES = 5  # of each kind
_LONGEST_TEXT = 2000  # characters of a prompt or response
_LONGEST_ERROR = 300
_DISTINCT_ERRORS = 1000
OTHER_ERRORS = "(others)"


@dataclass(frozen=True)
class Example:
    """A sample as the report shows it; texts are cut."""

    group_id: str
    sample_index: int
    status: str
    reward: float | None
    tokens: int
    prompt: str
    response: str
    ground_truth: str


@dataclass(frozen=True)
class Row:
    """What the report needs of a trajectory; ``ground_truth`` is JSON text, ``length`` counts tokens."""

    group_id: str
    sample_index: int
    status: str
    messages: list[dict[str, str]]
    length: int
    version_spans: list[tuple[int, int, int]]
    consumed_version: int | None
    reward: float | None
    ground_truth: str
    error: str


@dataclass
class Samples:
    """What the trajectories say."""

    count: int = 0
    groups: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    ended: Counter[int] = field(default_factory=Counter)  # lengths of responses that ended by themselves
    cut: Counter[int] = field(default_factory=Counter)  # and of the others
    ages: Counter[int] = field(default_factory=Counter)  # tokens, by versions
    errors: Counter[str] = field(default_factory=Counter)
    rewards: Series = field(default_factory=Series)  # mean of each group, in the order of the files
    reward_sum: float = 0.0
    reward_count: int = 0
    best: list[Example] = field(default_factory=list)
    worst: list[Example] = field(default_factory=list)
    longest: list[Example] = field(default_factory=list)


@dataclass
class Timeline:
    """What metrics.jsonl says: series over its lines, whose times are ``seconds``."""

    seconds: Series = field(default_factory=Series)
    series: dict[str, Series] = field(default_factory=dict)
    attempts: int = 0

    @property
    def busy(self) -> dict[str, Series]:
        """How busy the learner was, if there is one, and each replica."""
        found = {name: self.series[name] for name in self.series if _is_busy(name)}
        return {name.removeprefix("replica/").removesuffix("/busy"): found[name] for name in sorted(found)}


DRAWN = (
    "rollout/tokens_per_second",
    "fully_async/monitor/queue/mq_queue_size",
    "learner/waiting",
)
_LEARNER_IDLE, _LEARNER_BUSY = "fully_async/trainer/idle_ratio", "learner/busy"


def read_samples(folder: Path) -> Samples:
    """Go through all trajectories of a run once.

    Raises:
        InputError: a file is damaged.
    """
    samples = Samples()
    best: list[tuple[float, int, Example]] = []
    worst: list[tuple[float, int, Example]] = []
    longest: list[tuple[float, int, Example]] = []
    group, rewards = None, Mean()
    for number, row in enumerate(_rows(folder)):
        if row.group_id != group:
            if group is not None:
                samples.rewards.add(rewards.value)
            group, rewards = row.group_id, Mean()
            samples.groups += 1
        _count(samples, row)
        if row.reward is not None:
            rewards.add(row.reward)
            _keep(best, row.reward, number, row)
            _keep(worst, -row.reward, number, row)
        _keep(longest, row.length, number, row)
    if group is not None:
        samples.rewards.add(rewards.value)
    samples.best, samples.worst, samples.longest = (_in_order(kept) for kept in (best, worst, longest))
    return samples


def read_timeline(folder: Path) -> Timeline:
    """Go through metrics.jsonl once; a half line at its end, which a kill leaves, is left out.

    Times of a later attempt, which count from its own beginning, follow those of the one before.

    Raises:
        InputError: a line is damaged.
    """
    timeline, before, last = Timeline(), 0.0, -1.0
    path = folder / METRICS
    if not path.exists():
        return timeline
    for line in _metric_lines(path):
        seconds = line["seconds"]
        if seconds < last or not timeline.attempts:
            before += max(last, 0.0)
            timeline.attempts += 1
        last = seconds
        _add_line(timeline, before + seconds, line)
    return timeline


def _add_line(timeline: Timeline, seconds: float, line: Mapping[str, float]) -> None:
    for name in line:
        if name != "seconds" and name not in timeline.series:
            fresh = Series()
            for _ in range(timeline.seconds.seen):  # so that all have the same stretches
                fresh.add(None)
            timeline.series[name] = fresh
    timeline.seconds.add(seconds)
    for name, series in timeline.series.items():
        series.add(line.get(name))


def ledger_states(folder: Path) -> dict[str, int]:
    """How many groups are in which state, of a run that has no summary; nothing where there is no ledger.

    Raises:
        InputError: the ledger is damaged.
    """
    path = folder / LEDGER
    if not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return dict(database.execute("SELECT state, COUNT(*) FROM groups GROUP BY state"))
    except sqlite3.DatabaseError as error:
        raise InputError(f"the run's ledger cannot be read: {error}", where=str(path)) from error


def read_json(path: Path) -> dict[str, Any] | None:
    """A file with one JSON object; None where there is no such file.

    Raises:
        InputError: it holds something else.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"is no JSON: {error}", where=str(path)) from error
    return mapping_in({"": content}, "", path)


def mapping_in(document: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """What a document has under a name; nothing where it has no such name.

    Raises:
        InputError: it is no mapping; ``path`` is where the document was read.
    """
    found = document.get(name, {})
    if not isinstance(found, dict):
        raise InputError(f"{name or 'the file'} is no mapping", where=str(path))
    return found


def _rows(folder: Path) -> Iterator[Row]:
    trajectories = RunDirectory(folder).trajectories
    for path in part_paths(trajectories) if trajectories.is_dir() else ():
        yield from _parquet_rows(path) if path.suffix == ".parquet" else map(_row, read_part(path))


def _row(trajectory: Trajectory) -> Row:
    same = {part.name: getattr(trajectory, part.name) for part in fields(Row) if part.name != "length"}
    truth = json.dumps(trajectory.ground_truth, ensure_ascii=False)
    return Row(**same | {"ground_truth": truth}, length=len(trajectory.response_ids))


def _parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a part, of which token ids and logprobs are not turned into Python objects."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = [part.name for part in fields(Row) if part.name != "length"]
    try:
        with pq.ParquetFile(path) as file:
            require_schema(
                (file.schema_arrow.metadata or {}).get(b"asynckit.schema", b"").decode(), str(path)
            )
            for batch in file.iter_batches(1024, columns=[*columns, "response_ids"]):
                lengths = pc.list_value_length(batch["response_ids"]).to_pylist()
                for length, row in zip(lengths, batch.select(columns).to_pylist(), strict=True):
                    spans = [(span["start"], span["end"], span["version"]) for span in row["version_spans"]]
                    yield Row(**row | {"version_spans": spans}, length=length)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), mend="the file is damaged") from error


def _is_busy(name: str) -> bool:
    return name == _LEARNER_BUSY or (name.startswith("replica/") and name.endswith("/busy"))


def _metric_lines(path: Path) -> Iterator[dict[str, float]]:
    """What is drawn of each line, and its seconds."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield _drawn(json.loads(line, parse_constant=_refuse))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise InputError(f"is no line of metrics: {error}", where=f"{path}:{number}") from error


def _drawn(line: Mapping[str, Any]) -> dict[str, float]:
    names = ["seconds", *(name for name in line if name in DRAWN or _is_busy(name))]
    learner = {_LEARNER_BUSY: 1 - float(line[_LEARNER_IDLE])} if _LEARNER_IDLE in line else {}
    return learner | {name: float(line[name]) for name in names}


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _count(samples: Samples, row: Row) -> None:
    samples.count += 1
    samples.statuses[row.status] += 1
    lengths = samples.cut if row.status == "truncated" else samples.ended
    if row.status != "failed":
        lengths[row.length] += 1
    if row.reward is not None:
        samples.reward_sum += row.reward
        samples.reward_count += 1
    if row.consumed_version is not None:
        for start, end, version in row.version_spans:
            samples.ages[row.consumed_version - version] += end - start
    if row.error:
        error = row.error[:_LONGEST_ERROR]
        full = len(samples.errors) >= _DISTINCT_ERRORS and error not in samples.errors
        samples.errors[OTHER_ERRORS if full else error] += 1


def _keep(kept: list[tuple[float, int, Example]], key: float, number: int, row: Row) -> None:
    """Keep the highest keys; of equal ones the earliest."""
    if len(kept) == _EXAMPLES and key <= kept[0][0]:
        return
    entry = (key, -number, _example(row))
    if len(kept) < _EXAMPLES:
        heapq.heappush(kept, entry)
    else:
        heapq.heapreplace(kept, entry)


def _in_order(kept: list[tuple[float, int, Example]]) -> list[Example]:
    return [example for *_, example in sorted(kept, key=lambda entry: entry[:2], reverse=True)]


def _example(row: Row) -> Example:
    *prompt, response = row.messages or [{"role": "assistant", "content": ""}]
    if response["role"] != "assistant":
        prompt, response = [*prompt, response], {"content": ""}
    return Example(
        row.group_id,
        row.sample_index,
        row.status,
        row.reward,
        row.length,
        _cut("\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)),
        _cut(response["content"]),
        _cut(row.ground_truth),
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} … ({len(text):,} characters)"
