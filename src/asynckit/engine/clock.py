"""Time for an engine and whoever drives it: counted, or the machine's."""

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that pass when somebody lets them."""

    def now(self) -> float:
        """Seconds since some fixed moment; never going back."""

    def advance(self, seconds: float) -> None:
        """Return when ``seconds`` have passed; at once when they are not positive."""

    def close(self) -> None:
        """End a wait in another thread, and make every later one return at once."""


class VirtualClock:
    """Time that passes only when advanced, and then at once."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Seconds advanced so far."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Add ``seconds``."""
        self._now += max(0.0, seconds)

    def close(self) -> None:
        """Nothing waits here."""


class RealClock:
    """The machine's time."""

    def __init__(self) -> None:
        self._epoch = time.time() - time.monotonic()
        self._closed = threading.Event()

    def now(self) -> float:
        """Seconds since the epoch; ``time.time()`` jumps when somebody sets the machine's clock, this not."""
        return self._epoch + time.monotonic()

    def advance(self, seconds: float) -> None:
        """Sleep until ``seconds`` have passed or the clock is closed."""
        if seconds > 0:
            self._closed.wait(seconds)

    def close(self) -> None:
        """Wake whoever sleeps."""
        self._closed.set()
