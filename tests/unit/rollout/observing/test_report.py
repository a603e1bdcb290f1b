"""The report: made from what is on the disk, harmless, and small however large the run."""

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import get_type_hints

import pytest

from asynckit.config.load import load_config
from asynckit.config.schema import Root
from asynckit.errors import InputError
from asynckit.rollout.group import FinishedGroup, GroupStatus
from asynckit.rollout.ledger import NAME as LEDGER
from asynckit.rollout.ledger import Ledger
from asynckit.rollout.observing.metrics_log import MetricsLog
from asynckit.rollout.observing.report import SECTIONS, changed_settings, write_report
from asynckit.rollout.observing.report_numbers import read_samples, read_timeline
from asynckit.rollout.observing.snapshot import ReplicaSnapshot, Snapshot
from asynckit.rollout.record import EngineInfo, Trajectory, to_json
from asynckit.rollout.run_directory import RunDirectory
from asynckit.rollout.sinks import TrajectorySink

HOSTILE = "</pre><script>alert(1)</script><img src=http://a/b onerror=x>\x00\x1b\u202e&amp;\"'"
VOID = {"meta", "path", "circle", "rect"}


class Page(HTMLParser):
    """Reads a page strictly: tags have to match, and what could act is collected."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open it."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID or tag == "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One that closes itself."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        """It has to be the last that was opened."""
        if tag not in VOID or tag == "rect":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep it."""
        self.text += data


def samples(group: int, count: int = 2, **changes: object) -> list[Trajectory]:
    blank = Trajectory(
        uid="",
        group_id=f"group-{group}",
        sample_index=0,
        status="completed",
        messages=[
            {"role": "user", "content": f"question {group}"},
            {"role": "assistant", "content": "answer"},
        ],
        data_source="sums",
        engine=EngineInfo("simulated", "m", "d"),
        response_ids=[1, 2, 3],
        response_mask=[1, 1, 1],
        logprobs=[-1.0, -1.0, -1.0],
        version_spans=[(0, 2, 4), (2, 3, 5)],
        min_version=4,
        max_version=5,
        consumed_version=5,
        reward=0.5,
    )
    return [replace(blank, uid=f"{group}-{n}", sample_index=n, **changes) for n in range(count)]  # type: ignore[arg-type]


def a_run(path: Path, *groups: list[Trajectory], kind: str = "parquet", lines: int = 0) -> Path:
    run = RunDirectory.create(path, overwrite=False)
    loaded = load_config(overrides=["rollout.n=2", f"prompts.source={json.dumps(HOSTILE[:50])}"], environ={})
    run.write_config(loaded.to_replay(), loaded.digest, loaded.identity)
    sink = TrajectorySink(run.trajectories, kind, part_samples=3, part_seconds=60)
    for group in groups:
        sink.append(group)
    sink.close()
    with MetricsLog(run.path) as log:
        for number in range(lines):
            replica = ReplicaSnapshot(HOSTILE, "running", 0, 1, 100 * number, 0, 2.5 * number, 0)
            log.append(Snapshot(seconds=5.0 * number, submitted=1, queued=number, replicas=(replica,)))
    return run.path


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_hostile_text_is_text(tmp_path: Path, kind: str) -> None:
    """Whatever a model, a prompt, an error, a setting or a name says, nothing of it acts."""
    messages = [{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": HOSTILE}]
    bad = samples(
        0, 1, messages=messages, ground_truth={"a": HOSTILE}, status="failed", reward=None, error=HOSTILE
    )
    page = page_of(a_run(tmp_path / "r", bad, samples(1, messages=messages), kind=kind, lines=3))
    assert not page.tags & {"script", "img", "iframe", "link", "object", "a", "form", "base", "use", "image"}
    assert not {name for name in page.attributes if name.startswith("on")} | page.attributes & {"src", "href"}
    assert page.text.count("<script>alert(1)</script>") >= 5
    assert "\u2400\u241b\\u202e&amp;" in page.text


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_the_page_needs_nothing_else(tmp_path: Path, kind: str) -> None:
    """It can be mailed: nothing is loaded, and its own policy says so."""
    run = a_run(tmp_path / "r", samples(0), samples(1), kind=kind, lines=4)
    text = write_report(run).read_text()
    assert "default-src 'none'" in text
    assert "url(" not in text
    assert "@import" not in text
    assert "http" not in text.replace("http-equiv", "").replace("http://a/b", "")
    assert "nan" not in text.replace("rollout.n", "").split("<h2>Settings")[0].lower()


def test_the_facts_are_those_of_the_run(tmp_path: Path) -> None:
    """Settings, samples, errors and their counts."""
    failed = samples(1, 3, status="failed", reward=None, error="ValueError: no")
    page = page_of(a_run(tmp_path / "r", samples(0, reward=1.0), failed, samples(2, reward=-1.0)))
    for fact in ("rollout.n2", "3ValueError: no", "4 completed, 3 failed", "mean reward0.0000", "question 2"):
        assert fact in page.text, fact
    assert "there is no summary.json" in page.text


def test_numbers_are_counted_once(tmp_path: Path) -> None:
    """Both formats give the same, group by group."""
    groups = [
        samples(0, reward=1.0),
        samples(1, 3, reward=None, status="failed", error="e"),
        samples(2, reward=0.0),
    ]
    found = [read_samples(a_run(tmp_path / kind, *groups, kind=kind)) for kind in ("parquet", "jsonl")]
    assert found[0] == found[1]
    assert (found[0].count, found[0].groups) == (7, 3)
    assert found[0].rewards.means == [1.0, None, 0.0]
    assert found[0].ages == {0: 7, 1: 14}
    assert [example.group_id for example in found[0].best] == ["group-0"] * 2 + ["group-2"] * 2
    assert [example.group_id for example in found[0].worst] == ["group-2"] * 2 + ["group-0"] * 2


def runs(folder: Path) -> Iterator[Path]:
    yield a_run(folder / "empty")
    yield a_run(folder / "one", samples(0, 1))
    yield a_run(folder / "failed", samples(0, status="failed", reward=None, error="e"), lines=1)
    (bare,) = samples(0, 1, response_ids=[], response_mask=[], logprobs=[], version_spans=[], messages=[])
    yield a_run(folder / "bare", [replace(bare, min_version=None, max_version=None)])


def test_any_run_has_a_report(tmp_path: Path) -> None:
    """Nothing done, one sample, only failures, empty responses."""
    for run in runs(tmp_path):
        assert "nothing to draw" in page_of(run).text
        assert not list(run.glob(".*report*"))


def test_a_killed_run_shows_what_its_ledger_knows(tmp_path: Path) -> None:
    """How far it was is the first question."""
    run = a_run(tmp_path / "r")
    ledger = Ledger(run / LEDGER)
    ledger.submit(["a", "b", "c"])
    ledger.start("a")
    ledger.complete([FinishedGroup("b", GroupStatus.FAILED, tuple(samples(0, 1)))])
    assert "1 completed, 1 running, 1 submitted" in page_of(run).text
    ledger.close()


def test_a_summary_is_shown_as_it_is(tmp_path: Path) -> None:
    """The table at the end of the run and the report say the same."""
    run = a_run(tmp_path / "r", samples(0))
    summary = {"status": "done", "groups": {"completed": 1, "failed": 0}, "submitted": 1, "idle_ratio": None}
    RunDirectory(run).write_summary(summary | {"tokens_per_second": 1234.5})
    page = page_of(run)
    assert "statusdone" in page.text
    assert "1 completed of 1" in page.text
    assert "tokens per second1,234" in page.text


def test_a_long_run_has_a_small_report(tmp_path: Path) -> None:
    """Series and texts are bounded at their worst: many uneasy replicas, and text that grows when escaped."""
    run = a_run(tmp_path / "r")
    busy = [0.0] * 40
    with MetricsLog(run) as log:
        for number in range(700):
            busy = [seconds + 5 * ((number // 4 + at) % 2) for at, seconds in enumerate(busy)]
            replicas = [
                ReplicaSnapshot(f"r-{at}", "running", 0, 1, 0, 0, each, 0) for at, each in enumerate(busy)
            ]
            log.append(Snapshot(seconds=5.0 * number, submitted=1, replicas=tuple(replicas)))
    long = [{"role": role, "content": '"' * 50_000} for role in ("user", "assistant")]
    rows = [samples(n, 1, error=f"error {n}", messages=long if n < 20 else [])[0] for n in range(3000)]
    lines = "".join(to_json(replace(row, ground_truth='"' * 9000)) + "\n" for row in rows)
    (run / "trajectories" / "part-000000.jsonl").write_text(lines)
    assert 500_000 < write_report(run).stat().st_size < 2_000_000
    assert len(read_timeline(run).seconds.means) <= 160


def test_the_learner_has_a_row_of_its_own(tmp_path: Path) -> None:
    """Whether it or the replicas wait is what such a run is tuned by; without one there is no row."""
    run = a_run(tmp_path / "r")
    replica = ReplicaSnapshot("r-0", "running", 0, 1, 0, 0, 0.0, 0)
    with MetricsLog(run) as log:
        for seconds, busy in ((0.0, 0.0), (10.0, 4.0)):
            shown = (replace(replica, busy_seconds=seconds),)
            log.append(Snapshot(seconds=seconds, submitted=1, learner_busy_seconds=busy, replicas=shown))
    busy_now = {name: series.means[-1] for name, series in read_timeline(run).busy.items()}
    assert busy_now == pytest.approx({"learner": 0.4, "r-0": 1.0})
    assert "learner 40% busy, r-0 100% busy" in page_of(run).text
    assert "learner" not in read_timeline(a_run(tmp_path / "alone", lines=3)).busy


def test_attempts_follow_one_another(tmp_path: Path) -> None:
    """A resumed run's seconds begin again; its plots go on. The half line of a kill is no part of them."""
    run = a_run(tmp_path / "r", lines=3)
    with MetricsLog(run) as log:
        log.append(Snapshot(seconds=1.0, submitted=1))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4')
    timeline = read_timeline(run)
    assert timeline.seconds.means == [0.0, 5.0, 10.0, 11.0]
    assert timeline.attempts == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", b'{"seconds": NaN}\n'),
        ("metrics.jsonl", b'{"seconds": 1, "learner/waiting": "<b>"}\n'),
        ("metrics.jsonl", b"[]\n"),
        ("summary.json", b"{"),
        ("summary.json", b"[]"),
        ("summary.json", b'{"groups": 3}'),
        ("config.json", b'{"config": []}'),
        ("config.json", b'{"config": {"rollout": 3}}'),
        ("ledger.sqlite", b"not a database, but long enough to be looked at"),
        ("trajectories/part-000000.jsonl", b"{}\n"),
        ("trajectories/part-000000.parquet", b"PAR1"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    """And no report is written that would be wrong; an earlier one stays."""
    run = a_run(tmp_path / "r")
    (run / "report.html").write_text("earlier")
    (run / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        write_report(run)
    assert Path(name).name in caught.value.where
    assert (run / "report.html").read_text() == "earlier"


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    """Nothing is written into somebody's folder."""
    with pytest.raises(InputError, match="no run"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_changed_settings_are_compared_with_the_schemas_defaults() -> None:
    """The sections that the report knows are the schema's."""
    hints = get_type_hints(Root)
    assert {name: hints[name] for name in SECTIONS} == SECTIONS
    assert {part.name for part in fields(Root)} >= SECTIONS.keys()
    assert changed_settings(load_config(environ={}).to_replay()) == []
    loaded = load_config(overrides=["rollout.loggers=wandb", "sampling.stop=[a]"], environ={})
    assert changed_settings(loaded.to_replay()) == [
        ("sampling.stop", '["a"]'),
        ("rollout.loggers", '["wandb"]'),
    ]
