"""``asynckit runs`` as it is typed: what goes to stdout, what to stderr, and the exit codes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from made_runs import N, make_run
from typer.testing import CliRunner, Result

from asynckit.cli import app
from asynckit.errors import AsynckitError

Command = Callable[..., Result]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """``asynckit runs …`` in a folder that has a run called first."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "first", groups=3)
    return lambda *words: CliRunner().invoke(app, ["runs", *words])


def assert_error(result: Result, code: int, *words: str) -> None:
    """The error carries the exit code that cli.main() ends with, and says all words."""
    assert isinstance(result.exception, AsynckitError), result.output
    assert result.exception.exit_code == code
    for word in words:
        assert word in str(result.exception)


def test_list_shows_runs(runs: Command) -> None:
    """As a table and as one document."""
    assert "first" in runs("list").stdout
    document = json.loads(runs("list", "--json").stdout)
    (entry,) = document["runs"]
    assert (entry["name"], entry["status"], entry["submitted"]) == ("first", "done", 3)
    empty = runs("list", "runs/first/logs")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert_error(runs("list", "nowhere"), 4, "no such folder")


@pytest.mark.parametrize("words", [("show",), ("export", "--to", "jsonl", "--out", "-"), ("audit",)])
@pytest.mark.parametrize("content", [b'{"schema": "asynckit.conf', b"[]", b'{"schema": "other/1"}'])
def test_a_damaged_config_is_named(runs: Command, words: tuple[str, ...], content: bytes) -> None:
    """Not a run whose settings nobody knows is shown or passed on as if it were whole."""
    (Path("runs") / "first" / "config.json").write_bytes(content)
    result = runs(words[0], "first", *words[1:])
    assert_error(result, 4, "config.json")
    assert result.stdout == ""


def test_show_goes_from_the_run_to_a_sample(runs: Command) -> None:
    """The id in the table is one that --group takes."""
    table = runs("show", "first").stdout
    document = json.loads(runs("show", "first", "--json").stdout)
    assert document["summary"]["mean_reward"] == 0.5
    group_id = document["groups"][1]["id"]
    assert group_id[:10] in table
    text = runs("show", "first", "--group", group_id[:10], "--sample", "2").stdout
    assert f"sample 2 of group {group_id}" in text
    assert "[assistant]\n  it is 2, 2\n" in text
    assert "versions: 0 for tokens 0 to 1, 1 for tokens 2 to 7" in text
    samples = json.loads(runs("show", "first", "-g", group_id, "--json").stdout)["samples"]
    assert [each["sample_index"] for each in samples] == list(range(N))


def test_show_without_a_terminal_has_no_escapes_and_cuts_nothing(runs: Command) -> None:
    """Output that is piped can be searched."""
    for words in (["show", "first"], ["list"], ["audit", "first", "--quiet"]):
        out = runs(*words).stdout
        assert "\x1b" not in out
    assert "every group id and seed is the hash of its prompt, place, seed and settings" in out


def test_audit_ends_with_0_or_1(runs: Command, tmp_path: Path) -> None:
    """The verdict is the exit code; the first finding is in the error."""
    good = runs("audit", "first", "--json")
    assert good.exit_code == 0
    assert json.loads(good.stdout)["holds"] is True
    (tmp_path / "runs/first/trajectories/part-000001.parquet").unlink()
    bad = runs("audit", "first", "--json")
    assert_error(bad, 1, "part-000001.parquet", "ledger")
    assert json.loads(bad.stdout)["holds"] is False
    table = runs("audit", "first")
    assert_error(table, 1)
    assert "the ledger names it, and it is not there" in table.stdout


def test_the_environment_has_no_say_in_an_audit(runs: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """What binds a run are the settings that it was begun with."""
    monkeypatch.setenv("ASYNCKIT_ROLLOUT__N", "7")
    assert runs("audit", "first").exit_code == 0


def test_export_says_where_it_wrote(runs: Command, tmp_path: Path) -> None:
    """On stderr, or as a document; data alone on stdout with --out -."""
    done = runs("export", "first", "--to", "trl")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "12 samples of 3 groups in 12 rows: first.trl.parquet" in done.stderr
    assert (tmp_path / "first.trl.parquet").is_file()
    assert_error(runs("export", "first", "--to", "trl"), 2, "--overwrite")
    again = json.loads(runs("export", "first", "--to", "trl", "--overwrite", "--json").stdout)
    assert again["rows"] == 12
    lines = runs("export", "first", "--to", "jsonl", "--out", "-", "--quiet").stdout.splitlines()
    assert [json.loads(line)["sample_index"] for line in lines] == list(range(N)) * 3
    assert_error(runs("export", "first", "--to", "jsonl", "--out", "-", "--json"), 2, "stdout")


def test_usage_errors(runs: Command) -> None:
    """Near misses are suggested."""
    assert_error(runs("show", "frist"), 4, "did you mean first?")
    assert_error(runs("show", "first", "--sort", "rewards"), 2, "did you mean reward?")
    assert_error(runs("show", "first", "--status", "complete"), 2, "did you mean completed?")
    assert_error(runs("show", "first", "--sample", "1"), 2, "--group")
    assert_error(runs("export", "first", "--to", "ver"), 2, "did you mean verl?")
    assert_error(runs("export", "first", "--to", "trl", "--status", "completed,"), 2, "there is no ''")
    assert_error(runs("list", "--set", "rollout.m=1"), 3, "rollout.m")
    assert runs("show", "first", "--limit", "0").exit_code == 2
    assert runs("export", "first").exit_code == 2


@pytest.mark.parametrize("words", [["show"], ["audit", "--quiet"], ["export", "--to", "jsonl"]])
def test_damaged_runs_are_input_errors(runs: Command, tmp_path: Path, words: list[str]) -> None:
    """Whatever is missing or broken, nobody sees a traceback."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    first = tmp_path / "runs" / "first"
    for name in ("empty", "file", "nowhere"):
        assert_error(runs(words[0], name, *words[1:]), 4)
    if words[0] != "show":
        return
    (first / "trajectories" / "part-000000.parquet").write_bytes(b"PAR1")
    assert_error(runs("show", "first"), 4, "part-000000.parquet")
    shutil.rmtree(first / "trajectories")
    assert_error(runs("show", "first"), 4, "trajectories is missing")


def test_a_run_without_settings_cannot_be_audited(runs: Command, tmp_path: Path) -> None:
    """Nobody knows what it promised; settings of another asynckit are configuration errors."""
    config = tmp_path / "runs" / "first" / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"learner": {', '"teacher": {'))
    assert_error(runs("audit", "first"), 3, "teacher")
    config.write_text(text[:100])
    assert_error(runs("audit", "first"), 4, "config.json")
    config.unlink()
    assert_error(runs("audit", "first"), 4, "config.json is missing")


def test_every_command_takes_the_common_options() -> None:
    """-c, --set, --json, --quiet and --verbose work everywhere."""
    from asynckit.commands import runs as module

    command = typer.main.get_command(module.app)
    for name in ("list", "show", "audit", "export"):
        found = {option for each in command.commands[name].params for option in each.opts}  # type: ignore[attr-defined]
        assert {"--config", "--set", "--json", "--quiet", "--verbose"} <= found
