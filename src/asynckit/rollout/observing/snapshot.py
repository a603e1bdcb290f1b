"""Where a run stands at one moment: what the live table shows and the metrics are computed from."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ReplicaSnapshot:
    """One rollouter.

    Attributes:
        name: ``rollouter-0`` and so on.
        state: starting, running, updating (new weights) or dead.
        version: of the weights that it samples with.
        in_flight: groups that it has been given and that have not ended.
        sampled_tokens, prefilled_tokens: over all its lives.
        busy_seconds: for which its engine worked, likewise.
        scored: responses.
    """

    name: str
    state: str
    version: int
    in_flight: int
    sampled_tokens: int
    prefilled_tokens: int
    busy_seconds: float
    scored: int


@dataclass(frozen=True)
class Snapshot:
    """The whole run.

    Attributes:
        seconds: since the run began.
        submitted: groups that the run has set out to do so far.
        groups, samples: how many have ended, by status.
        in_flight: groups that run now.
        backlog: groups that have not started.
        queued: finished groups in the message queue.
        learner_waiting: finished groups that wait for the learner.
        version: of the policy that is trained.
        consumed: groups that the learner has had.
        ages: how many tokens the learner has had, by how many versions old they were.
        partial_groups: groups with tokens of more than one version.
        max_partial_span: the most versions that one sample's tokens spread over, less one.
        reward_sum, reward_count: over the samples that have a reward.
        response_tokens: in ended groups.
        longest_response: tokens.
        group_seconds: seconds that the newest groups took from start to end, at most a thousand of them.
        learner_busy_seconds: for which the learner trained.
        written: samples in trajectory files.
        replicas: the rollouters.
    """

    seconds: float
    submitted: int
    groups: dict[str, int] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    in_flight: int = 0
    backlog: int = 0
    queued: int = 0
    learner_waiting: int = 0
    version: int = 0
    consumed: int = 0
    ages: Counter[int] = field(default_factory=Counter)
    partial_groups: int = 0
    max_partial_span: int = 0
    reward_sum: float = 0.0
    reward_count: int = 0
    response_tokens: int = 0
    longest_response: int = 0
    group_seconds: tuple[float, ...] = ()
    learner_busy_seconds: float = 0.0
    written: int = 0
    replicas: tuple[ReplicaSnapshot, ...] = ()


@dataclass(frozen=True)
class Progress:
    """How far the run is: whether an engine is ready, whether it is over, groups ended, and all the rest."""

    ready: bool
    over: bool
    ended: int
    snapshot: Snapshot
