"""Says what a run that doesn't move is waiting for."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Standstill:
    """What is known of a run in which nothing moves.

    Attributes:
        at: groups that are being generated, scored, and put into the queue.
        backlog: groups that have not started.
        queued: groups in the queue, which has room for ``queue_size``; None where it doesn't answer.
        queue_size: see there.
        learner_busy: whether the learner works on a batch.
        publishing: whether new weights are on their way.
        learner_waiting: groups that wait for the learner.
    """

    at: Mapping[str, int]
    backlog: int
    queued: int | None
    queue_size: int
    learner_busy: bool = False
    publishing: bool = False
    learner_waiting: int = 0


def what_is_stuck(found: Standstill) -> tuple[str, str]:
    """The part that everything else waits for, and what to do; the one nearest to the end comes first."""
    at, logs = found.at, "see the run's logs folder; --resume goes on with the run"
    generating, scoring = at.get("generating", 0), at.get("scoring", 0)
    queued = found.queued or 0
    suspects = (
        (found.queued is None, "the message queue does not answer", logs),
        (
            found.learner_busy,
            "the learner has been working on one batch",
            "look at the learner, or allow it more time with rollout.stall_timeout",
        ),
        (
            bool(at.get("queueing")) and queued >= found.queue_size,
            f"the message queue is full ({queued} groups) and nobody takes from it",
            "look at the disk that the run directory is on",
        ),
        (scoring > 0, f"the reward is scoring {scoring} groups", "look at the reward function"),
        (
            found.publishing and generating > 0,
            f"new weights wait for {generating} groups that are being generated",
            "look at the engines, or use async_training.partial_rollout=true",
        ),
        (found.publishing, "new weights are being put into the engines", logs),
        (generating > 0, f"the engines are generating {generating} groups", logs),
        (
            found.learner_waiting > 0,
            f"{found.learner_waiting} groups wait for the learner, which doesn't take them",
            logs,
        ),
    )
    nobody = (True, f"no part has work, and {found.backlog} groups have not started", logs)
    return next((what, mend) for applies, what, mend in (*suspects, nobody) if applies)
