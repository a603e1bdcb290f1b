"""A server that a test has started: the real command, in a process group of its own, and surely stopped."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from processes import family

GONE_SECONDS = 10


@dataclass(frozen=True)
class Served:
    """A server that is ready.

    Attributes:
        url: its address.
        process: the supervisor.
        mark: what all of its processes have in their environment.
        log: what they write to stderr.
    """

    url: str
    process: "subprocess.Popen[str]"
    mark: str
    log: Path

    def pids(self, kind: str = "") -> list[int]:
        """Its processes but the supervisor, or those of a kind: http, router, worker, detokenizer."""
        found = {pid for pid, line in family(self.mark).items() if "asynckit.serve.process" in line}
        return sorted(pid for pid in found if not kind or f"\0{kind}" in family(self.mark).get(pid, ""))


def command(*arguments: str) -> list[str]:
    """The command line of a server on a free port."""
    return [sys.executable, "-m", "asynckit", "serve", "--port", "0", "--json", *arguments]


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[Served]:
    """A server that runs while inside; leaving stops it and checks that nothing is left of it."""
    mark, log = uuid.uuid4().hex, folder / f"serve-{uuid.uuid4().hex[:6]}.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command(*arguments),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=os.environ | {"ASYNCKIT_TEST_MARK": mark},
            preexec_fn=_default_signals,  # noqa: PLW1509 - a test's own process, with no threads yet
        )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line, log.read_text()
        yield Served(json.loads(line)["url"], process, mark, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        if process.stdout:
            process.stdout.close()
        until_gone(mark)


def until_gone(mark: str) -> None:
    """Wait until no process of a server is left: the kernel ends children when their parent has ended."""
    end = time.monotonic() + GONE_SECONDS
    while left := family(mark):
        assert time.monotonic() < end, left
        time.sleep(0.05)


def _default_signals() -> None:
    """Whoever started the tests may have made them deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
