"""How soon somebody who is sent away should come back."""

import math
from collections import deque

LAST = 64
SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = 60.0


class Throughput:
    """How fast requests end, by the times of the last ones."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=LAST)

    def ended(self, now: float) -> None:
        """A request has ended."""
        self._ends.append(now)

    def retry_after(self, waiting: int, now: float) -> float:
        """Whole seconds in which about so many requests end; a guess where few have ended."""
        if len(self._ends) < 2:
            return SHORTEST_SECONDS
        rate = len(self._ends) / max(now - self._ends[0], 1e-3)
        return float(min(max(math.ceil(waiting / rate), SHORTEST_SECONDS), LONGEST_SECONDS))
