"""What a person sees while a run goes on."""

import io
import logging
import os
import re
import sys
from collections import Counter
from dataclasses import replace

import pytest
from rich.console import Console

from asynckit import console
from asynckit.rollout.observing.live_table import LiveTable, render
from asynckit.rollout.observing.snapshot import ReplicaSnapshot, Snapshot

START = Snapshot(
    seconds=30.0,
    submitted=100,
    backlog=90,
    in_flight=10,
    replicas=(
        ReplicaSnapshot("rollouter-0", "running", 0, 5, 0, 0, 0.0, 0),
        ReplicaSnapshot("rollouter-1", "starting", 0, 5, 0, 0, 0.0, 0),
    ),
)
LATER = Snapshot(
    seconds=90.0,
    submitted=100,
    groups={"completed": 18, "failed": 2},
    samples={"completed": 72, "failed": 8},
    in_flight=10,
    backlog=70,
    queued=3,
    learner_waiting=4,
    version=2,
    consumed=12,
    ages=Counter({0: 75, 1: 25}),
    reward_sum=36.0,
    reward_count=72,
    learner_busy_seconds=15.0,
    replicas=(
        ReplicaSnapshot("rollouter-0", "running", 2, 5, 60_000, 0, 45.0, 0),
        ReplicaSnapshot("rollouter-1", "dead", 1, 0, 6_000, 0, 6.0, 0),
    ),
)


def shown(now: Snapshot, previous: Snapshot | None = None, *, width: int = 100) -> str:
    screen = Console(file=io.StringIO(), width=width)
    screen.print(render(previous, now, first=previous))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_the_table_says_how_the_run_goes() -> None:
    """Every fact that one looks for is there, once."""
    text = shown(LATER, START)
    for fact in (
        "20 of 100: 18 completed, 2 failed",
        "1 min 30 s, about 4 min 00 s left",
        "1,100",
        "0.500 (newest 0.500)",
        "70 to start, 10 in flight, 3 in the queue",
        "version 2, 12 groups, 4 wait, busy 25%",
        "0: 75%, 1: 25%",
    ):
        assert fact in text
    assert re.search(r"rollouter-0 +running +2 +5 +1,000 +75%", text)
    assert re.search(r"rollouter-1 +dead +1 +0 +100 +10%", text)


def test_what_is_not_known_is_not_made_up() -> None:
    """At the start there are no rates, no reward, no estimate and no learner."""
    text = shown(START)
    assert "30 s, ? left" in text
    assert re.search(r"tokens/s +\?", text)
    assert "learner" not in text


@pytest.mark.parametrize("width", [20, 34, 60, 200])
def test_any_width_will_do(width: int) -> None:
    """A terminal beside an editor shows the same numbers, folded."""
    text = shown(LATER, START, width=width)
    assert all(len(line) <= width for line in text.splitlines())
    assert width < 34 or ("1,000" in text and "75%" in text)


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Terminal:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": "80", **variables}.items():
        monkeypatch.setitem(os.environ, name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def test_a_terminal_is_redrawn_four_times_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups that end by the hundred do not cost the machine; the last moment is always drawn."""
    terminal = drawn(monkeypatch)
    now = 0.0
    with LiveTable(quiet=False, clock=lambda: now) as table:
        for step in range(100):
            now += 0.01
            table.update(replace(START, seconds=30.0 + step / 100))
        frames = terminal.getvalue().count("in flight")
        table.update(LATER)
    assert frames == 4
    assert "20 of 100" in terminal.getvalue()
    assert sys.stderr is terminal


def test_what_others_print_stays_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes and warnings go above the table instead of into it."""
    terminal = drawn(monkeypatch)
    console.set_up(verbose=False)
    with LiveTable(quiet=False) as table:
        table.update(START)
        console.print_note("stopping")
        logging.getLogger("asynckit").warning("a logger failed")
    text = terminal.getvalue()
    for line in ("stopping", "WARNING asynckit: a logger failed"):
        assert re.search(rf"\x1b\[2K{line}", text)


def test_no_color_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither colours nor bold; the cursor still moves."""
    for variables, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        terminal = drawn(monkeypatch, **variables)
        with LiveTable(quiet=False) as table:
            table.update(LATER)
        assert bool(re.search(r"\x1b\[[0-9;]*m", terminal.getvalue())) == coloured


def test_elsewhere_there_is_a_line_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """A log file gets no table."""
    now = 0.0
    with LiveTable(quiet=False, clock=lambda: now) as table:
        table.update(START)
        now = 11.0
        table.update(LATER)
        table.update(LATER)
    assert capsys.readouterr().err == "20/100 groups after 11 s, reward 0.500, 1,100 tokens/s\n"


def test_quiet_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal too."""
    terminal = drawn(monkeypatch)
    with LiveTable(quiet=True) as table:
        table.update(LATER)
    assert terminal.getvalue() == ""
