"""The trace: strict JSON when closed, readable when killed, and continued when a run goes on."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from asynckit.errors import InputError, WorkFailed
from asynckit.trace_events import TraceWriter


def events(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(), parse_constant=pytest.fail)
    return found


def of_phase(path: Path, phase: str) -> list[dict[str, Any]]:
    return [event for event in events(path) if event["ph"] == phase]


def test_every_kind_of_event_has_what_the_format_asks_for(tmp_path: Path) -> None:
    """Perfetto drops events without a phase, a time, or the process and thread they belong to."""
    path = tmp_path / "trace.json"
    with TraceWriter(path) as trace:
        trace.span("runner/ledger", "complete", 10.0, 10.25, groups=3)
        number = trace.begin("rollouter-0/groups", "group", 11.0, id='a"<b>')
        other = trace.begin("rollouter-0/groups", "group", 11.5)
        trace.end("rollouter-0/groups", "group", number, 12.0, status="completed")
        trace.end("rollouter-0/groups", "group", other, 13.0)
        trace.counter("queue", 12.0, 4)
        trace.instant("runner/ledger", "replica died", 12.5)
    assert all({"name", "ph", "ts", "pid", "tid"} <= event.keys() for event in events(path))
    names = {(event["name"], event["args"]["name"]) for event in of_phase(path, "M")}
    assert {("process_name", "rollouter-0"), ("thread_name", "groups")} <= names
    (span,) = of_phase(path, "X")
    assert (span["ts"], span["dur"], span["args"]) == (10e6, 0.25e6, {"groups": 3})
    begins, ends = of_phase(path, "b"), of_phase(path, "e")
    assert [event["id"] for event in begins] == [event["id"] for event in ends] == [number, other]
    assert len({(event["cat"], event["pid"]) for event in (*begins, *ends)}) == 1
    assert begins[0]["args"] == {"id": 'a"<b>'}
    assert [event["args"] for event in of_phase(path, "C")] == [{"value": 4}]
    assert [event["s"] for event in of_phase(path, "i")] == ["t"]


def test_a_killed_run_leaves_whole_lines(tmp_path: Path) -> None:
    """All but the closing bracket is there, as the array format allows."""
    path = tmp_path / "trace.json"
    trace = TraceWriter(path)
    trace.instant("a/b", "x", 1.0)
    assert json.loads(path.read_text().removesuffix(",\n") + "]")[-1]["name"] == "x"
    trace.close()
    assert events(path)[-1]["name"] == "x"


@pytest.mark.parametrize("torn", [b"", b'{"name":"y","ph"', b"\n]\n"])
def test_a_run_that_goes_on_continues_the_file(tmp_path: Path, torn: bytes) -> None:
    """Closed, killed, or cut in the middle of a line: tracks keep their numbers, and ids are new."""
    path = tmp_path / "trace.json"
    with TraceWriter(path) as trace:
        first = trace.begin("rollouter-0/groups", "group", 1.0)
    if torn != b"\n]\n":
        path.write_bytes(path.read_bytes().removesuffix(b"\n]\n") + b",\n" + torn)
    with TraceWriter(path) as trace:
        second = trace.begin("rollouter-0/groups", "group", 2.0)
        trace.instant("rollouter-1/groups", "x", 3.0)
    assert second != first
    begins = of_phase(path, "b")
    assert [event["ts"] for event in begins] == [1e6, 2e6]
    assert len({(event["pid"], event["tid"]) for event in begins}) == 1
    processes = [event for event in of_phase(path, "M") if event["name"] == "process_name"]
    assert [event["args"]["name"] for event in processes] == ["rollouter-0", "rollouter-1"]
    assert len({event["pid"] for event in processes}) == 2


def test_an_empty_trace_is_one_too(tmp_path: Path) -> None:
    """A run that did nothing, closed and continued."""
    path = tmp_path / "trace.json"
    for content in (None, b"", b"[", b"[\n"):
        if content is not None:
            path.write_bytes(content)
        TraceWriter(path).close()
        TraceWriter(path).close()
        assert events(path) == []


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    """The ledger writes in threads of its own."""
    path = tmp_path / "trace.json"
    with TraceWriter(path) as trace, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda at: trace.span(f"runner/{at % 3}", "x", at, at + 1), range(300)))
    assert sorted(event["ts"] for event in of_phase(path, "X")) == [at * 1e6 for at in range(300)]
    assert len(of_phase(path, "M")) == 4


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    """It is not written into; and a folder that is gone ends the run with the path."""
    (tmp_path / "trace.json").write_text("mine\n")
    with pytest.raises(InputError, match=r"trace\.json"):
        TraceWriter(tmp_path / "trace.json")
    assert (tmp_path / "trace.json").read_text() == "mine\n"
    with pytest.raises(WorkFailed, match="No such file"):
        TraceWriter(tmp_path / "gone" / "trace.json")
