"""Progress and errors on the terminal."""

import io
import subprocess
import sys
from collections.abc import Iterator

import pytest
from rich.text import Text

from asynckit import console


def ticking(step: float) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += step


def test_a_heartbeat_line_every_ten_seconds_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A log file gets a plain line now and then, not a bar."""
    clock = ticking(4.0)
    progress = console.Progress(100, "group", quiet=False, clock=lambda: next(clock))
    for done in range(1, 7):
        progress.update(done, "fine")
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["3/100 groups after 12 s, fine", "6/100 groups after 24 s, fine"]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """--quiet silences progress."""
    clock = ticking(60.0)
    progress = console.Progress(2, "group", quiet=True, clock=lambda: next(clock))
    progress.update(1)
    progress.close()
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal progress is a tqdm bar on stderr."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = console.Progress(4, "group", quiet=False)
    progress.update(3, "reward 0.5")
    progress.close()
    seen = capsys.readouterr()
    assert "3/4" in seen.err
    assert "reward 0.5" in seen.err
    assert seen.out == ""


def test_an_error_shows_place_and_mend(capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong, where, and what to do; text in brackets is no markup."""
    console.print_error("list [a] is wrong", "conf.yaml:1:2", "write [b]")
    assert capsys.readouterr().err.splitlines() == [
        "error: conf.yaml:1:2: list [a] is wrong",
        "help: write [b]",
    ]


def test_logging_waits_for_nobody() -> None:
    """Whoever starts us need not read our stderr: a full pipe stops neither the work nor the end."""
    program = """
import logging
from asynckit import console
console.set_up(verbose=False)
console.never_wait()
for _ in range(5000):
    logging.warning("x" * 1000)
print("done", flush=True)
"""
    unread = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert unread.stdout
    assert unread.stderr
    assert unread.stdout.read() == b"done\n"
    assert unread.wait(30) == 0
    assert unread.stderr.read().count(b"WARNING") > 10
    unread.stdout.close()
    unread.stderr.close()


def test_a_terminal_that_lacks_a_character_gets_its_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's text ends a command because of where it is shown."""
    old = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", old)
    console.print_for_people(Text(f"a {console.mark('→', '->')} 猫"))
    old.flush()
    assert old.buffer.getvalue() == b"a -> \\u732b\n"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert console.mark("→", "->") == "→"
