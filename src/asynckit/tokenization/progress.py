"""What a person sees while tokens are made: megabytes, rates, and the time that is left."""

import time

from asynckit.console import Progress


class TokenizingProgress:
    """Counts bytes and tokens.

    Args:
        total: bytes of input; None where that is not known.
        quiet: show nothing.
    """

    def __init__(self, total: int | None, *, quiet: bool) -> None:
        self._shown: Progress | None = None
        self._quiet = quiet
        self._began = time.monotonic()
        self._bytes = self._tokens = self._skipped = 0
        self._total = total

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return time.monotonic() - self._began

    @property
    def worked_bytes(self) -> int:
        """Input that was read now, not in an earlier attempt."""
        return self._bytes - self._skipped

    @property
    def worked_tokens(self) -> int:
        """Tokens that were made now."""
        return self._tokens

    def skip(self, weight: int) -> None:
        """Bytes that were done in an earlier attempt."""
        self._bytes += weight
        self._skipped += weight

    def add(self, weight: int, tokens: int) -> None:
        """A unit is done."""
        self._bytes += weight
        self._tokens += tokens

    def show(self) -> None:
        """Show the state; cheap enough for every turn of a loop.

        The bar begins here: it has a thread, and workers are forked before.
        """
        if self._shown is None:
            megabytes = None if self._total is None else -(-self._total // 1_000_000)
            # A rate of its own would count what an earlier attempt has done.
            self._shown = Progress(megabytes, "MB", quiet=self._quiet, rates=False)
        self._shown.update(self._bytes // 1_000_000, self._rates())

    def close(self) -> None:
        """Leave the terminal tidy."""
        if self._shown is not None:
            self._shown.close()

    def _rates(self) -> str:
        seconds = max(self.seconds, 1e-3)
        rate = self.worked_bytes / seconds
        words = f"{rate / 1e6:.1f} MB/s, {self._tokens / seconds / 1e6:.2f} M tokens/s"
        if self._total is None or not rate:
            return words
        return f"{words}, {max(self._total - self._bytes, 0) / rate:.0f} s left"
