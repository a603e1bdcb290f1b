"""An output folder: ours or not, begun with this plan or another, never half deleted."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from asynckit.errors import AsynckitError, ConfigError, InputError, UsageError
from asynckit.tokenization import journal as module
from asynckit.tokenization.journal import SCHEMA, Journal

PLAN: dict[str, Any] = {
    "schema": SCHEMA,
    "options": {"format": "megatron", "on_error": "stop"},
    "tokenizer": {"name": "tiny", "digest": "a" * 64},
    "inputs": [{"name": "a.jsonl", "identity": "1"}, {"name": "b.jsonl", "identity": "2"}],
}


def changed(*path: Any, to: Any) -> dict[str, Any]:
    plan = deepcopy(PLAN)
    place: Any = plan
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return plan


def begun(folder: Path) -> Path:
    """An output with a shard, a part and what a killed process leaves."""
    with Journal.open(folder, PLAN, overwrite=False) as journal:
        journal.begin_encoder("gigatoken", frozenset())
        journal.commit(0, {"record": None, "notes": []}, [])
        journal.part(3).write_bytes(b"part")
        (folder / "data-00000.bin").write_bytes(b"shard")
        (folder / ".data-00001.bin.tmp").write_bytes(b"torn")
        (journal.parts / ".00000004.part.tmp").write_bytes(b"torn")
        (journal.blocks / "0.block").write_bytes(b"old")
    return folder


def test_the_same_plan_goes_on(tmp_path: Path) -> None:
    """What is whole stays; what is torn goes."""
    folder = begun(tmp_path / "out")
    with Journal.open(folder, PLAN, overwrite=False) as journal:
        assert journal.shards() == {0: {"record": None, "notes": []}}
        assert [path.name for path in journal.parts.iterdir()] == ["00000003.part"]
        assert not list(journal.blocks.iterdir())
        assert not list(folder.glob(".data*"))
        assert not journal.complete


@pytest.mark.parametrize(
    ("plan", "kind", "says"),
    [
        (
            changed("options", "format", to="npy"),
            ConfigError,
            "format was 'megatron' and is 'npy'",
        ),
        (changed("options", "new", to=1), ConfigError, "tokenization.new was None and is 1"),
        (changed("tokenizer", "digest", to="b" * 64), ConfigError, "another tokenizer"),
        (changed("inputs", 1, "identity", to="3"), InputError, "has changed since"),
        (changed("inputs", 0, "name", to="c.jsonl"), InputError, "begun with a.jsonl here"),
        (changed("inputs", to=PLAN["inputs"][:1]), InputError, "begun with 2 inputs, and now there are 1"),
    ],
)
def test_another_plan_is_refused_and_nothing_is_touched(
    plan: dict[str, Any], kind: type[AsynckitError], says: str, tmp_path: Path
) -> None:
    """Tokens of two tokenizers in one output would be worth nothing."""
    folder = begun(tmp_path / "out")
    with pytest.raises(kind, match=says), Journal.open(folder, plan, overwrite=False):
        pass
    assert (folder / "data-00000.bin").read_bytes() == b"shard"
    with Journal.open(folder, plan, overwrite=True) as journal:
        assert journal.shards() == {}
        assert not list(folder.glob("data-*"))


def test_what_failed_at_once_may_be_begun_with_other_settings(tmp_path: Path) -> None:
    """The mend of an error at the first record is another setting, which must not be refused then."""
    folder = tmp_path / "out"
    other = changed("options", "format", to="npy")
    with pytest.raises(InputError, match="no field"), Journal.open(folder, PLAN, overwrite=False):
        raise InputError("no field 'text'")
    with Journal.open(folder, other, overwrite=False) as journal:
        journal.part(0).write_bytes(b"part")
    with pytest.raises(ConfigError), Journal.open(folder, PLAN, overwrite=False):
        pass
    assert journal.part(0).read_bytes() == b"part"


def test_a_run_that_stopped_at_a_broken_record_may_go_on_without_it(tmp_path: Path) -> None:
    """But one that skipped some may not become strict: they are missing in what was finished."""
    folder = begun(tmp_path / "out")
    lenient = changed("options", "on_error", to="skip")
    with Journal.open(folder, lenient, overwrite=False) as journal:
        assert 0 in journal.shards()
    with pytest.raises(ConfigError, match="on_error"), Journal.open(folder, PLAN, overwrite=False):
        pass


@pytest.mark.parametrize("overwrite", [False, True])
def test_folders_of_others_are_left_alone(overwrite: bool, tmp_path: Path) -> None:
    """Not even --overwrite deletes what tokenize does not write."""
    folder = begun(tmp_path / "out")
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"thesis\.tex"), Journal.open(folder, PLAN, overwrite=overwrite):
        pass
    assert (folder / "data-00000.bin").is_file()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data-1.csv").write_text("1")
    with (
        pytest.raises(UsageError, match=r"no plan\.json"),
        Journal.open(tmp_path / "other", PLAN, overwrite=overwrite),
    ):
        pass
    assert (tmp_path / "other" / "data-1.csv").is_file()


def test_a_run_that_was_killed_before_its_plan_was_written_can_be_begun_again(tmp_path: Path) -> None:
    """What is hidden is nobody's."""
    (tmp_path / ".work").mkdir()
    (tmp_path / ".plan.json.tmp").write_text("{")
    with Journal.open(tmp_path, PLAN, overwrite=False):
        assert [path.name for path in tmp_path.glob("*.json")] == ["plan.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": "asynckit.tokenization-plan/0"}'])
def test_a_damaged_plan_is_refused(content: bytes, tmp_path: Path) -> None:
    folder = begun(tmp_path / "out")
    (folder / "plan.json").write_bytes(content)
    with (
        pytest.raises(UsageError, match=r"the plan cannot be read|another version"),
        Journal.open(folder, PLAN, overwrite=False),
    ):
        pass


@pytest.mark.parametrize("content", [b"[]", b'{"version": 4, "resources": []}'])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_plan_of_others_is_left_alone(content: bytes, overwrite: bool, tmp_path: Path) -> None:
    """--overwrite does not take any plan.json for a reason to delete what lies beside it."""
    (tmp_path / "plan.json").write_bytes(content)
    (tmp_path / "data-1.csv").write_text("1")
    with pytest.raises(UsageError, match=r"no plan\.json"), Journal.open(tmp_path, PLAN, overwrite=overwrite):
        pass
    assert (tmp_path / "data-1.csv").is_file()


def test_what_was_found_of_encoders_is_overwritten_too(tmp_path: Path) -> None:
    """An encoder that was wrong for an earlier output's tokenizer may be right for the next."""
    with Journal.open(tmp_path, PLAN, overwrite=False) as journal:
        journal.begin_encoder("kitoken", frozenset({"gigatoken"}))
    with Journal.open(tmp_path, PLAN, overwrite=True) as journal:
        assert not journal.avoided


def test_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.05)
    folder = begun(tmp_path / "out")
    with (
        FileLock(folder / ".work" / "lock"),
        pytest.raises(UsageError, match="another process"),
        Journal.open(folder, PLAN, overwrite=True),
    ):
        pass
    assert (folder / "data-00000.bin").is_file()


def test_shards_are_forgotten_before_they_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while another encoder begins anew, a run does not believe in shards that are gone."""

    def killed(path: Path, *, missing_ok: bool = False) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    folder = begun(tmp_path / "out")
    with Journal.open(folder, PLAN, overwrite=False) as journal:
        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", killed)
            with pytest.raises(KeyboardInterrupt):
                journal.begin_encoder("kitoken", frozenset({"gigatoken"}))
        assert not journal.shards()


def test_another_encoder_begins_anew(tmp_path: Path) -> None:
    """What an encoder wrote that turned out to be wrong is thrown away, and it is remembered."""
    folder = begun(tmp_path / "out")
    with Journal.open(folder, PLAN, overwrite=False) as journal:
        journal.begin_encoder("gigatoken", frozenset())
        assert journal.part(3).is_file()
        journal.begin_encoder("kitoken", frozenset({"gigatoken"}))
        assert not journal.part(3).is_file()
        assert not list(folder.glob("data-*"))
    with Journal.open(folder, PLAN, overwrite=False) as journal:
        assert journal.avoided == {"gigatoken"}
