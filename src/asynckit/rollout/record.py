"""The record of one sample, schema ``asynckit.trajectory/1``, as JSON line and as Parquet row."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from itertools import pairwise
from typing import Any

from asynckit.errors import InputError
from asynckit.rollout.prompting.prompts import Prompt

SCHEMA = "asynckit.trajectory/1"
STATUSES = ("completed", "truncated", "failed", "cancelled", "stale", "filtered")
# Values of any shape: JSON as they are in a JSON line, JSON text in a Parquet column.
FREE_FORM = ("ground_truth", "sampling", "extra")


@dataclass(frozen=True)
class EngineInfo:
    """What generated a response: kind of engine, model, and digest of the tokenizer."""

    name: str
    model: str
    tokenizer_digest: str


@dataclass(frozen=True)
class Timing:
    """Seconds since the run began; None for what did not happen."""

    queued: float | None = None
    start: float | None = None
    first_token: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Trajectory:
    """One sample: its prompt, response, score and how they came about.

    Attributes:
        uid: ``trajectory_uid``; the same sample of the same run has the same one after a restart.
        group_id: ``group_id``; shared by the samples of one prompt.
        sample_index: place in its group, from 0.
        attempt: how often the run had been started, from 1.
        status: one of ``STATUSES``.
        stop_reason: what ended the response, such as ``stop`` or ``length``.
        messages: the conversation with the response as its last message; ``{"role", "content"}`` each.
        prompt_ids, response_ids: token ids.
        response_mask: 1 for tokens that the policy sampled, 0 for others; as long as ``response_ids``.
        logprobs: of the sampled tokens under softmax(logits / temperature), float32; 0 where the mask is 0.
        version_spans: ``(start, end, policy version)`` of consecutive stretches of the response.
        min_version, max_version: over the spans; of an empty response, of the policy that was asked, or None.
        consumed_version: of the policy that was trained when the learner took the sample, so that a token of
            version v was ``consumed_version - v`` versions old; None where nobody took it.
        reward, reward_components: the score; None and empty when there is none.
        advantage: set by who computes it.
        ground_truth, data_source, extra: from the prompt.
        sampling: the sampling parameters.
        engine, timing: see there.
        turns: how many times the assistant spoke.
        error: why it failed; empty unless it did.
    """

    uid: str
    group_id: str
    sample_index: int
    status: str
    messages: list[dict[str, str]]
    data_source: str
    engine: EngineInfo
    attempt: int = 1
    stop_reason: str | None = None
    prompt_ids: list[int] = field(default_factory=list)
    response_ids: list[int] = field(default_factory=list)
    response_mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    version_spans: list[tuple[int, int, int]] = field(default_factory=list)
    min_version: int | None = None
    max_version: int | None = None
    consumed_version: int | None = None
    reward: float | None = None
    reward_components: dict[str, float] = field(default_factory=dict)
    advantage: float | None = None
    ground_truth: Any = None
    sampling: dict[str, Any] = field(default_factory=dict)
    turns: int = 1
    timing: Timing = field(default_factory=Timing)
    error: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def group_id(prompt: Prompt, seed: int, config_digest: str) -> str:
    """128-bit hex name of a prompt's group: its content, its index in the run, the seed and the config."""
    content = [prompt.text, prompt.messages, prompt.ground_truth, prompt.data_source]
    return _digest(["group", prompt.index, *content, seed, config_digest])


def trajectory_uid(prompt: Prompt, sample_index: int, seed: int, config_digest: str) -> str:
    """128-bit hex name of one sample of a group."""
    return uid_in_group(group_id(prompt, seed, config_digest), sample_index)


def uid_in_group(group: str, sample_index: int) -> str:
    """128-bit hex name of one sample of the group that is named."""
    return _digest(["sample", group, sample_index])


def _digest(content: list[Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def check(trajectory: Trajectory) -> None:
    """Assert the invariants of a record; a violation is a bug of whoever made it."""
    assert trajectory.status in STATUSES, f"status {trajectory.status!r}"
    assert trajectory.status != "failed" or trajectory.error, "a failed sample says why"
    length = len(trajectory.response_ids)
    assert len(trajectory.response_mask) == length, (
        f"{len(trajectory.response_mask)} mask values, {length} tokens"
    )
    assert len(trajectory.logprobs) == length, f"{len(trajectory.logprobs)} logprobs, {length} tokens"
    for mask, logprob in zip(trajectory.response_mask, trajectory.logprobs, strict=True):
        assert mask in (0, 1), f"mask value {mask}"
        assert mask or logprob == 0, f"logprob {logprob} of a token that was not sampled"
    numbers = [
        trajectory.reward,
        trajectory.advantage,
        *trajectory.logprobs,
        *trajectory.reward_components.values(),
    ]
    assert all(number is None or math.isfinite(number) for number in numbers), "numbers are finite"
    assert all(message.keys() == {"role", "content"} for message in trajectory.messages), (
        "role and content only"
    )
    _check_spans(trajectory)


def _check_spans(trajectory: Trajectory) -> None:
    spans, length = trajectory.version_spans, len(trajectory.response_ids)
    covered = (spans[0][0], spans[-1][1]) if spans else (0, 0)
    assert covered == (0, length), f"spans {spans} cover {covered} of {length} tokens"
    assert all(start < end for start, end, _ in spans), f"an empty span in {spans}"
    assert all(left[1] == right[0] for left, right in pairwise(spans)), f"a gap or overlap in {spans}"
    if spans:
        expected = min(version for *_, version in spans), max(version for *_, version in spans)
        assert (trajectory.min_version, trajectory.max_version) == expected, f"versions are {expected}"


# --- JSON lines ---


def to_json(trajectory: Trajectory) -> str:
    """The record as one line of JSON, without the line break."""
    record = {"schema": SCHEMA, **asdict(trajectory)}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def from_json(line: str, *, where: str = "") -> Trajectory:
    """The record of a line that ``to_json`` made.

    Raises:
        InputError: it is no such line.
    """
    try:
        record = json.loads(line)
        schema = record.pop("schema", None)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"not a trajectory: {error}", where=where) from error
    require_schema(schema, where)
    return _rebuild(record, where)


def require_schema(found: Any, where: str) -> None:
    """Raise InputError unless ``found`` is the schema of this module."""
    if found != SCHEMA:
        mend = "read it with the asynckit that wrote it"
        raise InputError(f"the schema is {found or 'missing'}, not {SCHEMA}", where=where, mend=mend)


def _rebuild(record: dict[str, Any], where: str) -> Trajectory:
    try:
        record["engine"] = EngineInfo(**record["engine"])
        record["timing"] = Timing(**record["timing"])
        record["version_spans"] = [(start, end, version) for start, end, version in record["version_spans"]]
        return Trajectory(**record)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a trajectory: {error}", where=where) from error


# --- Parquet rows ---


@lru_cache(maxsize=1)
def arrow_schema() -> Any:
    """The ``pyarrow.Schema`` of the records; its metadata names the schema under ``asynckit.schema``."""
    import pyarrow as pa

    text, number, ids = pa.string(), pa.float64(), pa.list_(pa.int32())
    types = {
        **dict.fromkeys(
            ("uid", "group_id", "status", "stop_reason", "data_source", "error", *FREE_FORM), text
        ),
        **dict.fromkeys(("sample_index", "attempt", "turns"), pa.int32()),
        **dict.fromkeys(("prompt_ids", "response_ids"), ids),
        **dict.fromkeys(("min_version", "max_version", "consumed_version"), pa.int64()),
        **dict.fromkeys(("reward", "advantage"), number),
        "messages": pa.list_(pa.struct([("role", text), ("content", text)])),
        "response_mask": pa.list_(pa.int8()),
        "logprobs": pa.list_(pa.float32()),
        "version_spans": pa.list_(
            pa.struct([("start", pa.int32()), ("end", pa.int32()), ("version", pa.int64())])
        ),
        "reward_components": pa.map_(text, number),
        "engine": pa.struct([(part.name, text) for part in fields(EngineInfo)]),
        "timing": pa.struct([(part.name, number) for part in fields(Timing)]),
    }
    columns = [(part.name, types[part.name]) for part in fields(Trajectory)]
    return pa.schema(columns, metadata={"asynckit.schema": SCHEMA})


def to_row(trajectory: Trajectory) -> dict[str, Any]:
    """The record as a row for ``arrow_schema``."""
    row = asdict(trajectory)
    for name in FREE_FORM:
        row[name] = json.dumps(row[name], ensure_ascii=False, allow_nan=False)
    row["version_spans"] = [
        dict(zip(("start", "end", "version"), span, strict=True)) for span in row["version_spans"]
    ]
    return row


def from_row(row: dict[str, Any], *, where: str = "") -> Trajectory:
    """The record of a row that ``to_row`` made and Arrow gave back.

    Raises:
        InputError: it is no such row.
    """
    record = dict(row)
    try:
        for name in FREE_FORM:
            record[name] = json.loads(record[name])
        record["version_spans"] = [
            (span["start"], span["end"], span["version"]) for span in record["version_spans"]
        ]
        record["reward_components"] = dict(record["reward_components"])  # Arrow gives a map as pairs
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a trajectory: {error}", where=where) from error
    return _rebuild(record, where)
