"""Exports: loaded by the trainer's own field names, in the way its code does."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made_runs import N, make_run, sums

from asynckit.errors import InputError, UsageError
from asynckit.rollout.afterwards.export import TARGETS, Exported, export, place_for
from asynckit.rollout.afterwards.run_reader import Run, find_run
from asynckit.rollout.config import PromptsConfig
from asynckit.rollout.prompting.prompts import load_prompts
from asynckit.rollout.record import Trajectory, from_json


def with_a_failure(each: Trajectory) -> Trajectory:
    """The second group's first sample failed; ground truths are numbers, not text."""
    truth = int(each.ground_truth)
    if truth == 2 and each.sample_index == 0:
        return replace(each, ground_truth=truth, status="failed", error="no", reward=None, advantage=None)
    return replace(each, ground_truth=truth)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = make_run(tmp_path / "run", groups=6, change=with_a_failure, unwritten=1)
    return find_run(str(made.path))


def exported(run: Run, to: str, path: Path, **chosen: Any) -> Exported:
    place = place_for(run, to, str(path), overwrite=False)
    return export(run, to, place, statuses=chosen.get("statuses"), min_reward=chosen.get("min_reward"))


# Fields of slime.utils.types.Sample, and the values of Sample.Status.
SLIME_FIELDS = {
    *("group_index", "index", "rollout_id", "prompt", "tokens", "response", "response_length", "label"),
    *("reward", "loss_mask", "weight_versions", "rollout_log_probs", "status", "metadata", "remove_sample"),
}
SLIME_STATUS = {"pending", "completed", "truncated", "aborted", "failed"}


def test_slime_loads_whole_groups_of_samples(run: Run, tmp_path: Path) -> None:
    """As load_debug_rollout_data and _convert_samples_to_train_data do it."""
    import torch

    result = exported(run, "slime", tmp_path / "out.pt")
    samples = torch.load(tmp_path / "out.pt", weights_only=False)["samples"]
    assert result.left_out == {"failed": 1, "in a group that is not whole": N - 1}
    assert len(samples) == result.samples == 5 * N
    for index, sample in enumerate(samples):
        assert set(sample) <= SLIME_FIELDS
        assert sample["status"] in SLIME_STATUS
        assert (sample["group_index"], sample["index"]) == (index // N, index)
        assert len(sample["loss_mask"]) == len(sample["rollout_log_probs"]) == sample["response_length"]
        assert sample["tokens"][: -sample["response_length"]] == [1, 2, 3]
        assert all(isinstance(version, str) for version in sample["weight_versions"])
        assert isinstance(sample["label"], str)
    rewards = torch.tensor([sample["reward"] for sample in samples], dtype=torch.float).reshape(-1, N)
    assert rewards.tolist() == [[1.0, 0.0, 1.0, 0.0]] * 5
    assert [sample["status"] for sample in samples[:N]] == [*["completed"] * (N - 1), "truncated"]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_trl_trains_on_the_tokens_that_were_sampled(run: Run, tmp_path: Path, suffix: str) -> None:
    """SFTTrainer takes ``input_ids`` as they are and builds labels from ``completion_mask``."""
    path = tmp_path / f"out.{suffix}"
    assert exported(run, "trl", path).left_out == {"failed": 1}
    rows = (
        pq.read_table(path).to_pylist()
        if suffix == "parquet"
        else [json.loads(line) for line in path.read_text().splitlines()]
    )
    assert len(rows) == 6 * N - 1
    records = [each for group in run.groups() for each in group.trajectories if not each.error]
    for row, record in zip(rows, records, strict=True):
        assert "input_ids" in row  # so the dataset counts as processed
        labels = [
            token if bit else -100
            for token, bit in zip(row["input_ids"], row["completion_mask"], strict=True)
        ]
        assert labels == [-100] * 3 + record.response_ids
        assert row["prompt"] + row["completion"] == record.messages
        assert row["completion"][0]["role"] == "assistant"
        assert (row["reward"], row["advantage"]) == (record.reward, record.advantage)
        assert row["completion_logprobs"] == record.logprobs
        assert row["ground_truth"] == str(record.ground_truth)


@pytest.mark.parametrize("suffix", ["parquet", "json"])
def test_verl_loads_prompts_with_what_they_earned(run: Run, tmp_path: Path, suffix: str) -> None:
    """RLHFDataset's columns, one row a prompt; and asynckit reads them as the same prompts again."""
    path = tmp_path / f"out.{suffix}"
    assert exported(run, "verl", path, min_reward=0.5).rows == 6
    rows = (
        pq.read_table(path).to_pylist()
        if suffix == "parquet"
        else [json.loads(line) for line in path.read_text().splitlines()]
    )
    for index, (row, prompt) in enumerate(zip(rows, sums(6), strict=True)):
        assert row["prompt"] == prompt.chat()
        assert row["data_source"] == "sums"
        assert row["reward_model"] == {"style": "rule", "ground_truth": prompt.ground_truth}
        assert row["extra_info"].get("index", 0) == index
        assert row["extra_info"]["mean_reward"] == 1.0
        assert {"ability", "extra_info"} <= set(row)
    assert "responses" not in rows[0]  # a tensor's name in verl's batches
    if suffix == "parquet":
        again = load_prompts(PromptsConfig(source=str(path)))
        assert [each.chat() for each in again] == [each.chat() for each in sums(6)]
        assert [each.ground_truth for each in again] == [each.ground_truth for each in sums(6)]


def test_what_a_verl_prompt_brought_along_it_takes_back(tmp_path: Path) -> None:
    """Its ability, its style and its extra_info, tool arguments among them, survive the round trip."""
    extra = {
        "ability": "math",
        "reward_model": {"style": "model"},
        "extra_info": {"split": "test", "index": 41, "tools_kwargs": {"calc": {"a": 1}}},
    }
    made = make_run(tmp_path / "run", groups=2, change=lambda each: replace(each, extra=extra))
    exported(find_run(str(made.path)), "verl", tmp_path / "out.parquet")
    row = pq.read_table(tmp_path / "out.parquet").to_pylist()[0]
    assert (row["ability"], row["reward_model"]["style"]) == ("math", "model")
    info = row["extra_info"]
    assert (info["split"], info["index"], info["tools_kwargs"]) == ("test", 41, {"calc": {"a": 1}})


def test_what_does_not_fit_into_columns_is_said(tmp_path: Path) -> None:
    """Parquet wants one type per column; JSON lines don't."""

    def change(each: Trajectory) -> Trajectory:
        return replace(each, extra={"extra_info": {"level": 1 if each.ground_truth == "1" else "high"}})

    run = find_run(str(make_run(tmp_path / "run", groups=2, change=change).path))
    with pytest.raises(InputError, match="does not fit"):
        exported(run, "verl", tmp_path / "out.parquet")
    assert exported(run, "verl", tmp_path / "out.json").rows == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "run"]


def test_records_as_they_are(run: Run, tmp_path: Path) -> None:
    """The records come out as they went in, the failed one too, and can be chosen among."""
    assert exported(run, "jsonl", tmp_path / "all.jsonl").samples == 6 * N
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    assert [from_json(line) for line in lines] == [
        each for group in run.groups() for each in group.trajectories
    ]
    exported(run, "jsonl", tmp_path / "cut.jsonl", statuses=("truncated",))
    assert len((tmp_path / "cut.jsonl").read_text().splitlines()) == 6
    result = exported(run, "jsonl", tmp_path / "good.jsonl", min_reward=1.0)
    assert result.left_out == {"below the least reward": 6 * 2, "without a reward": 1}


def test_stdout_gets_json_lines(run: Run, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """Whatever the trainer, each row is a line."""
    assert place_for(run, "slime", "-", overwrite=False) is None
    export(run, "slime", None, statuses=None, min_reward=None)
    lines = capsysbinary.readouterr().out.splitlines()
    assert len(lines) == 5 * N
    assert json.loads(lines[0])["response_length"] == 6


def test_a_terminal_is_not_commanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON leaves C1 controls as they are; on a terminal they are escaped, and mean the same."""

    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    def change(each: Trajectory) -> Trajectory:
        return replace(each, messages=[*each.messages[:-1], {"role": "assistant", "content": "\x9b2J\x1b"}])

    run = find_run(str(make_run(tmp_path / "run", groups=1, change=change).path))
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Terminal(out, encoding="utf-8"))
    export(run, "jsonl", None, statuses=None, min_reward=None)
    text = out.getvalue().decode()
    assert not {"\x9b", "\x1b"} & set(text)
    assert from_json(text.splitlines()[0]).messages[-1]["content"] == "\x9b2J\x1b"


def test_a_file_is_whole_or_not_there(run: Run, tmp_path: Path) -> None:
    """A damaged part ends an export without leaving anything, and what was there before stays."""
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    part = run.trajectories / "part-000001.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    place = place_for(run, "jsonl", str(path), overwrite=True)
    with pytest.raises(InputError, match="cannot be read"):
        export(run, "jsonl", place, statuses=None, min_reward=None)
    assert path.read_text() == "before"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out.jsonl", "run"]


def test_where_an_export_may_go(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not over a file, not into the run, not into nowhere, and not in a format the trainer cannot read."""
    monkeypatch.chdir(tmp_path)
    assert place_for(run, "trl", None, overwrite=False) == Path("run.trl.parquet")
    (tmp_path / "there.jsonl").touch()
    (tmp_path / "folder.jsonl").mkdir()
    for to, out, message in (
        ("jsonl", "there.jsonl", "the file exists"),
        ("jsonl", "folder.jsonl", "is a folder"),
        ("jsonl", "nowhere/out.jsonl", "its folder does not exist"),
        ("jsonl", "run/out.jsonl", "in the run's own folder"),
        ("jsonl", "run/trajectories/out.jsonl", "in the run's own folder"),
        ("jsonl", "out.parquet", "does not read files"),
        ("verl", "out.jsonl", "does not read files"),
        ("vrl", "out.jsonl", "no trainer"),
    ):
        with pytest.raises(UsageError, match=message):
            place_for(run, to, out, overwrite=False)
    assert place_for(run, "jsonl", "there.jsonl", overwrite=True) == Path("there.jsonl")


@pytest.mark.parametrize("to", TARGETS)
def test_nothing_to_export_is_an_error(run: Run, tmp_path: Path, to: str) -> None:
    """An empty data set would only fail later, and elsewhere."""
    with pytest.raises(InputError, match="no sample is left") as caught:
        exported(run, to, tmp_path / f"out{TARGETS[to].suffixes[0]}", min_reward=2.0)
    assert "below the least reward" in caught.value.message
    assert [each.name for each in tmp_path.iterdir()] == ["run"]
