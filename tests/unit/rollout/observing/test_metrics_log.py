"""The metrics file survives kills, and other loggers cannot end a run."""

import importlib.util
import json
import logging
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from asynckit.config.load import load_config
from asynckit.errors import ConfigError, DependencyError, InputError, WorkFailed
from asynckit.rollout.observing.loggers import open_backends, require_loggers
from asynckit.rollout.observing.metrics_log import MetricsLog
from asynckit.rollout.observing.snapshot import Snapshot


def at(seconds: float, tokens: int = 0) -> Snapshot:
    return Snapshot(seconds=seconds, submitted=4, version=int(seconds), response_tokens=tokens)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@dataclass
class Recorder:
    """Keeps what it is given; fails from a step on."""

    fails_from: int = 1000
    name: str = "recorder"
    taken: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    closed: bool = False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take it, or fail as a network does."""
        if step >= self.fails_from:
            raise ConnectionError("gone")
        self.taken.append((step, metrics))

    def close(self) -> None:
        """Fail again, if it did."""
        self.closed = True
        if self.fails_from < 1000:
            raise ConnectionError("still gone")


def test_each_snapshot_is_a_line_at_once(tmp_path: Path) -> None:
    """Whoever watches the file sees a line before the next begins."""
    with MetricsLog(tmp_path) as log:
        log.append(at(0.0))
        assert [line["step"] for line in lines(tmp_path)] == [0]
        metrics = log.append(at(5.1234))
        last = lines(tmp_path)[-1]
    assert {"step": 1, "seconds": 5.123, "version": 5, **metrics} == last
    assert last["rollout/groups_per_second"] == 0


@pytest.mark.parametrize("torn", [b"", b'{"step": 2, "sec', b"\0\0\0"])
def test_a_run_that_goes_on_counts_on(tmp_path: Path, torn: bytes) -> None:
    """The half line of a kill is cut off, and no whole line is lost or repeated."""
    with MetricsLog(tmp_path) as log:
        log.append(at(0.0))
        log.append(at(5.0))
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    with MetricsLog(tmp_path) as log:
        assert "rollout/groups_per_second" not in log.append(at(1.0))
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2]


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    """It is not written into."""
    (tmp_path / "metrics.jsonl").write_text("mine\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl"):
        MetricsLog(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == "mine\n"


def test_a_full_disk_ends_the_run_with_its_path(tmp_path: Path) -> None:
    """As everywhere else in the run directory."""
    (tmp_path / "gone").mkdir()
    with pytest.raises(WorkFailed, match=r"metrics\.jsonl"):
        MetricsLog(tmp_path / "gone" / "deeper")


def test_a_logger_that_fails_is_reported_once_and_let_go(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that goes away costs its curves, not the run."""
    broken, fine = Recorder(fails_from=1), Recorder()
    with caplog.at_level(logging.WARNING), MetricsLog(tmp_path, [broken, fine]) as log:
        for second in range(4):
            log.append(at(float(second)))
    assert [step for step, _ in broken.taken] == [0]
    assert [step for step, _ in fine.taken] == [0, 1, 2, 3]
    assert len(lines(tmp_path)) == 4
    assert sum("recorder" in record.message for record in caplog.records) == 1
    assert fine.closed


def test_a_logger_that_fails_at_the_end_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its last upload is reported as failed."""
    log = MetricsLog(tmp_path, [Recorder(fails_from=5)])
    log.append(at(0.0))
    log.close()
    assert "failed at its end" in caplog.text


def scalars(path: Path) -> Iterator[bytes]:
    """The records of an event file: length, checksum, data, checksum."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield data[12 : 12 + length]
        data = data[16 + length :]


def test_tensorboard_gets_every_metric(tmp_path: Path) -> None:
    """The event file is on the disk after each line, under verl's names."""
    with MetricsLog(tmp_path, open_backends(["jsonl", "tensorboard"], tmp_path, {})) as log:
        metrics = log.append(at(0.0))
        (events,) = (tmp_path / "tensorboard").iterdir()
        found = b"".join(scalars(events))
    assert [name for name in metrics if name.encode() not in found] == []


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed here")
def test_a_missing_package_is_found_before_anything_starts() -> None:
    """With the command that installs it."""
    require_loggers(["jsonl", "tensorboard"])
    with pytest.raises(DependencyError, match=r"asynckit\[wandb\]"):
        require_loggers(["wandb"])


def test_wandb_goes_on_with_its_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, and with the same name after a resume."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for _ in range(2):
        with MetricsLog(tmp_path, open_backends(["wandb"], tmp_path, {"rollout": {"n": 4}})) as log:
            log.append(at(0.0))
    name = (tmp_path / "wandb" / "run-id").read_text()
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*-{name}"))) >= 1


@pytest.mark.parametrize("text", ["tensorboard,wandb", "tensorboard, wandb", "[tensorboard, wandb]"])
def test_loggers_are_a_list_or_have_commas_between_them(text: str) -> None:
    """Both forms are in use elsewhere."""
    loaded = load_config(overrides=[f"rollout.loggers={text}"], environ={})
    assert loaded.root.rollout.loggers == ("tensorboard", "wandb")
    assert loaded.identity == load_config(environ={}).identity


def test_an_unknown_logger_is_refused_with_the_choices() -> None:
    """Before anything is generated."""
    with pytest.raises(ConfigError, match="one of jsonl, tensorboard, wandb, not 'mlflow'"):
        load_config(overrides=["rollout.loggers=tensorboard,mlflow"], environ={})
