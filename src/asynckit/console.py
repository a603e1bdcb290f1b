"""What goes to the terminal: data to stdout, everything else to stderr.

Progress is a tqdm bar on a terminal and one plain line every ten seconds elsewhere. ``NO_COLOR`` and
non-terminals get no ANSI codes (rich sees to that).
"""

import atexit
import contextlib
import io
import json
import logging
import logging.handlers
import os
import queue
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from asynckit.readable import quiet_json, readable

if TYPE_CHECKING:
    import tqdm
    from rich.console import Console, RenderableType

HEARTBEAT_SECONDS = 10.0
MOST_UNWRITTEN = 10_000  # records
_LAST_SECONDS = 1.0
_PLAIN_WIDTH = 240  # columns where no terminal says how many it has

_verbose = False


def set_up(*, verbose: bool) -> None:
    """Send logging to stderr, at INFO where the person asked for more, else at WARNING."""
    global _verbose  # noqa: PLW0603 - one process, one command line, one verbosity
    _verbose = verbose
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(
        handlers=[_Stderr()], level=level, format="%(levelname)s %(name)s: %(message)s", force=True
    )


class _Stderr(logging.Handler):
    """Writes to what is stderr at that moment: a live table stands in its place, to be drawn below."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print_note(self.format(record))
        except (OSError, ValueError):  # stderr is gone or closed: not a reason to end the run
            self.handleError(record)


def never_wait() -> None:
    """Log from a thread of its own from now on: a full pipe at the other end of stderr holds up nobody else.

    What does not fit in the queue meanwhile is dropped.
    """
    root, waiting = logging.getLogger(), _Queue()
    written = _Descriptor()
    written.setFormatter(root.handlers[0].formatter)
    listener = logging.handlers.QueueListener(waiting.queue, written)
    root.handlers = [waiting]
    listener.start()  # its thread ends with the process
    atexit.register(waiting.empty_soon)


class _Descriptor(logging.Handler):
    """Writes to stderr's descriptor, with no buffer or lock that the end of the process would wait for."""

    def createLock(self) -> None:  # noqa: N802 - the name is logging's
        """Have none: one thread writes, and logging would wait for it at the end."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # closed: nobody wants to know
            os.write(2, (self.format(record) + "\n").encode(errors="backslashreplace"))


class _Queue(logging.handlers.QueueHandler):
    """Hands records over to a thread; drops those that find no room."""

    def __init__(self) -> None:
        self._records: queue.Queue[Any] = queue.Queue(MOST_UNWRITTEN)
        super().__init__(self._records)

    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            self._records.put_nowait(record)

    def empty_soon(self) -> None:
        """Give the thread a moment for what is left."""
        end = time.monotonic() + _LAST_SECONDS
        while not self._records.empty() and time.monotonic() < end:
            time.sleep(0.01)


def verbose() -> bool:
    """Whether ``--verbose`` was given."""
    return _verbose


def stdout() -> "Console":
    """A rich console on stdout, for tables."""
    from rich.console import Console

    return Console(file=sys.stdout)


def print_json(document: Any) -> None:
    """Print one JSON document to stdout; what a terminal would obey in its texts is escaped."""
    sys.stdout.write(quiet_json(json.dumps(document, ensure_ascii=False, indent=2)) + "\n")


def mark(sign: str, plain: str) -> str:
    """``sign`` where stdout can show it, else ``plain``."""
    try:
        sign.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return plain
    return sign


def print_for_people(*parts: "RenderableType") -> None:
    """Print tables and texts to stdout; without a terminal nothing is wrapped to the width of one."""
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # no text ends the command because a terminal is old
    out = stdout()
    if not out.is_terminal:
        out = Console(file=out.file, width=_PLAIN_WIDTH)
    for part in parts:
        out.print(part)


def print_json_text(document: str) -> None:
    """Print a JSON document that is text already, likewise."""
    sys.stdout.write(quiet_json(document).rstrip("\n") + "\n")


def print_note(text: str) -> None:
    """Print one line for the person, on stderr."""
    sys.stderr.write(text + "\n")


def print_error(message: str, where: str, mend: str) -> None:
    """Print an error on stderr: what is wrong, where, and the mend; it may quote what others wrote."""
    message, where, mend = readable(message), readable(where), readable(mend)
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stderr, soft_wrap=True, highlight=False)
    lines = Text.assemble(("error: ", "bold red"), f"{where}: {message}" if where else message)
    if mend:
        lines.append_text(Text.assemble("\n", ("help: ", "bold green"), mend))
    console.print(lines)


class Progress:
    """Counts finished items on stderr; silent when ``quiet``.

    Args:
        total: how many there are; None where nobody knows.
        unit: what they are.
        quiet: show nothing.
        rates: whether a bar says how fast it goes; else that is in the notes.
        clock: of the lines without a terminal, in seconds.
    """

    def __init__(
        self,
        total: int | None,
        unit: str,
        *,
        quiet: bool,
        rates: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._unit = unit
        self._done = 0
        self._clock = clock
        self._started = self._last_line = clock()
        self._heartbeats = not quiet and not sys.stderr.isatty()
        self._bar: tqdm.tqdm[Any] | None = None
        if not quiet and sys.stderr.isatty():
            from tqdm import tqdm as bar

            counted = (
                "{n_fmt} {unit}" if total is None else "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}"
            )
            layout = None if rates else counted + " [{elapsed}{postfix}]"
            self._bar = bar(total=total, unit=unit, file=sys.stderr, dynamic_ncols=True, bar_format=layout)

    def update(self, done: int, note: str = "") -> None:
        """Show that ``done`` items are finished; ``note`` is a few words more."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._done)
            self._bar.refresh()
        self._done = done
        now = self._clock()
        if self._heartbeats and now - self._last_line >= HEARTBEAT_SECONDS:
            self._last_line = now
            counted = f"{done}" if self._total is None else f"{done}/{self._total}"
            units = self._unit if self._unit.isupper() else f"{self._unit}s"
            print_note(f"{counted} {units} after {now - self._started:.0f} s, {note}".rstrip(", "))

    def close(self) -> None:
        """Leave the terminal tidy."""
        if self._bar is not None:
            self._bar.close()
