"""``asynckit tokens`` as it is typed: what goes to stdout, what to stderr, and the exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from tokenized import write_tokenized
from typer.testing import CliRunner, Result

from asynckit.cli import app
from asynckit.commands.tokens import _split
from asynckit.errors import AsynckitError

Command = Callable[..., Result]


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """``asynckit tokens …`` in a folder that has an output called out."""
    monkeypatch.chdir(tmp_path)
    write_tokenized(tmp_path / "out")
    return lambda *words: CliRunner().invoke(app, ["tokens", *words])


def assert_error(result: Result, code: int, *words: str) -> None:
    """The error carries the exit code that cli.main() ends with, and says all words."""
    assert isinstance(result.exception, AsynckitError), result.output
    assert result.exception.exit_code == code
    for word in words:
        assert word in str(result.exception)


def test_inspect_takes_a_position_or_a_document(tokens: Command) -> None:
    """Digits may be grouped, as they are where positions are shown."""
    for target in ("out:12", "out:1_2", "out/:12"):
        assert json.loads(tokens("inspect", target, "--json").stdout)["position"] == 12
    document = json.loads(tokens("inspect", "out", "-d", "1", "--json").stdout)
    assert document["place"]["document"] == 1
    assert (document["at"] + document["after"]).startswith("Über Köln")
    shown = tokens("inspect", "out:12", "--limit", "4").stdout
    assert "news.jsonl" in shown
    assert "← here" in shown


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("out",), 2, "out:0 shows the first token"),
        (("out:3", "-d", "1"), 2, "one token or one document"),
        (("out:99999",), 4, "no token 99,999"),
        (("out:5", "--tokenizer", "nowhere/at/all"), 5, "--tokenizer"),
        (("nowhere:5",), 4, "no such folder"),
        (("out", "-d", "-1"), 4, "no document -1"),
    ],
)
def test_inspect_refuses_what_it_cannot_show(
    tokens: Command, words: tuple[str, ...], code: int, said: str
) -> None:
    """With the exit code of its kind and the mend."""
    result = tokens("inspect", *words)
    assert_error(result, code, said)
    assert result.stdout == ""


def test_a_folder_whose_name_ends_like_a_position_can_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A colon and digits are legal in names."""
    monkeypatch.chdir(tmp_path)
    assert _split("out:7") == (Path("out"), 7)
    Path("out:7").mkdir()
    assert _split("out:7") == (Path("out:7"), None)
    assert _split("out:7:3") == (Path("out:7"), 3)
    assert _split("s3:x") == (Path("s3:x"), None)


def test_verify_says_what_holds_and_ends_with_1_where_something_does_not(tokens: Command) -> None:
    """The document is complete in both cases."""
    result = tokens("verify", "out", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["holds"]
    (Path("out") / "data-00000.bin").write_bytes(b"")
    result = tokens("verify", "out", "--json")
    assert_error(result, 1, "data-00000.bin", "restore the file")
    document = json.loads(result.stdout)
    assert [check["name"] for check in document["checks"] if check["verdict"] == "broken"] == ["files"]
    assert "broken" in tokens("verify", "out").stdout


def test_stats_prints_tables_a_document_and_a_page(tokens: Command) -> None:
    """With --json, stdout has the document alone."""
    shown = tokens("stats", "out").stdout
    assert "length of documents" in shown
    assert "<|im_end|>" in shown
    result = tokens("stats", "out", "--json", "--top", "3", "--html", "page.html")
    document = json.loads(result.stdout)
    assert (document["documents"], len(document["top"])) == (7, 3)
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "news.jsonl" in page
    assert_error(tokens("stats", "out", "--html", "no/such/folder/page.html"), 1, "cannot be written")
    assert_error(tokens("stats", "nowhere"), 4, "no such folder")


def test_settings_are_checked_though_few_matter(tokens: Command) -> None:
    """A typo is an error everywhere."""
    assert_error(tokens("verify", "out", "--set", "model.nam=a"), 3, "nam")


def test_help_names_the_three() -> None:
    """What can be asked of an output."""
    result = CliRunner().invoke(app, ["tokens", "--help"])
    assert all(name in result.stdout for name in ("inspect", "verify", "stats"))
    assert isinstance(typer.main.get_command(app), typer.core.TyperGroup)
