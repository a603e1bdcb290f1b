"""The trace of requests: rows never overlap, phases follow each other, files stay readable and bounded."""

import json
import logging
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.serve.messages import Timing
from asynckit.serve.tracing import Rows, Tracer, phases


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def spans(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    events = json.loads(text if text.endswith("]\n") else text.removesuffix(",\n") + "]")
    return [event for event in events if event["ph"] == "X"]


def test_a_request_is_drawn_with_its_phases(tmp_path: Path) -> None:
    """Queue, prefill, decode and detokenize lie in one row, below the whole, at the time of day."""
    clock, path = Clock(), tmp_path / "new" / "trace-http-0.json"
    before = time.time()
    tracer = Tracer(path, clock=clock)
    clock.now = 14.5
    tracer.request("a", "alice", Timing(10.0, 11.0, 12.0, 14.0, 1, 0.25), "stop")
    found = spans(path)
    tracer.close()
    assert spans(path) == found
    whole, *parts = found
    assert whole["args"] == {"id": "a", "owner": "alice", "finish": "stop", "replica": 1}
    assert abs(whole["ts"] - (before + 10.0) * 1e6) < 10e6
    assert {event["tid"] for event in found} == {1}
    assert [(part["name"], round(part["dur"] / 1e6, 3)) for part in parts] == [
        ("queue", 1.0),
        ("prefill", 1.0),
        ("decode", 2.0),
        ("detokenize", 0.5),
    ]
    assert parts[-1]["args"] == {"seconds_in_detokenizer": 0.25}


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 40)), max_size=30))
def test_requests_at_the_same_time_lie_in_different_rows(lives: list[tuple[int, int]]) -> None:
    """Perfetto misdraws a row whose spans overlap without one holding the other."""
    rows, taken = Rows(), defaultdict(list)
    for end, begin in sorted((arrived + took, arrived) for arrived, took in lives):
        taken[rows.take(begin, end)].append((begin, end))
    for spans_of_row in taken.values():
        assert all(one[1] <= other[0] for one, other in pairwise(spans_of_row))


moments = st.floats(0.0, 100.0)


@given(st.floats(1.0, 100.0), st.lists(moments, max_size=4), st.floats(-0.01, 0.1))
def test_phases_follow_each_other(arrived: float, steps: list[float], late: float) -> None:
    """Whatever a request came to, its phases fill its time without a gap, and none ends before it begins."""
    reached = [arrived]
    for step in steps:
        reached.append(reached[-1] + step)
    ended = reached[-1]
    started, first = (*reached[1:3], 0.0, 0.0)[:2]
    found = phases(Timing(arrived, started, first, ended), ended + late)
    assert found[0][1] == arrived
    assert found[-1][2] >= ended
    assert all(begin <= end for _, begin, end in found)
    assert all(one[2] == other[1] for one, other in pairwise(found))


def test_a_request_that_never_started_waited_all_the_time() -> None:
    """It is drawn as what it was: a queue, no prefill."""
    assert phases(Timing(1.0, 0.0, 0.0, 3.0), 3.5) == [("queue", 1.0, 3.0), ("detokenize", 3.0, 3.5)]
    never_answered = phases(Timing(1.0, 2.0, 0.0, 3.0), 3.5)
    assert [name for name, *_ in never_answered] == ["queue", "prefill", "detokenize"]


def test_a_full_file_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that runs for a month must not fill the disk; what was drawn can be read."""
    path = tmp_path / "trace-http-0.json"
    tracer = Tracer(path, most_bytes=5000)
    for index in range(100):
        tracer.request(f"{index}", "", Timing(index, index, index, index + 1.0), "stop")
    assert 5000 < path.stat().st_size < 6500
    assert path.read_text().endswith("]\n")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    tracer.close()


def test_a_disk_that_refuses_does_not_end_requests(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A trace is worth less than an answer; that it ends is said, once."""
    path = tmp_path / "trace-http-0.json"
    tracer = Tracer(path)
    path.unlink()
    for _ in range(3):
        tracer.request("a", "", Timing(0.0, 1.0, 2.0, 3.0), "stop")
    assert "no more requests are traced" in caplog.text
    assert caplog.text.count(str(path)) == 2  # that it ends, and that the end could not be written


def test_a_file_goes_on_after_a_restart(tmp_path: Path) -> None:
    """A process that was killed comes back under its name and adds to its file."""
    path = tmp_path / "trace-http-0.json"
    first = Tracer(path)
    first.request("a", "", Timing(0.0, 1.0, 2.0, 3.0), "stop")
    first.close()
    with path.open("ab") as file:
        file.write(b'{"name":"torn')
    tracer = Tracer(path)
    tracer.request("b", "", Timing(4.0, 5.0, 6.0, 7.0), "abort")
    tracer.close()
    assert [span["args"]["id"] for span in spans(path) if span["name"] == "request"] == ["a", "b"]
