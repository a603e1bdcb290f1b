"""The watchdog: it names the part that everything else waits for."""

from dataclasses import replace

import pytest

from asynckit.rollout.observing.watchdog import Standstill, what_is_stuck

NOTHING = Standstill(at={}, backlog=3, queued=0, queue_size=4)


@pytest.mark.parametrize(
    ("found", "named"),
    [
        (replace(NOTHING, at={"scoring": 2}), "the reward is scoring 2 groups"),
        (replace(NOTHING, at={"generating": 5}), "the engines are generating 5 groups"),
        (replace(NOTHING, at={"queueing": 1}, queued=4), "the message queue is full"),
        (replace(NOTHING, learner_busy=True, at={"generating": 5}), "the learner has been working"),
        (replace(NOTHING, publishing=True, at={"generating": 2}), "new weights wait for 2 groups"),
        (replace(NOTHING, publishing=True), "new weights are being put into the engines"),
        (replace(NOTHING, learner_waiting=7), "7 groups wait for the learner"),
        (replace(NOTHING, queued=None, at={"generating": 5}), "the message queue does not answer"),
        (NOTHING, "no part has work, and 3 groups have not started"),
    ],
)
def test_the_stuck_part_is_named(found: Standstill, named: str) -> None:
    """What waits for another part is not blamed."""
    what, mend = what_is_stuck(found)
    assert named in what
    assert mend
