"""What ``docs/tokenize-outputs.md`` says about the files is true."""

import re
from pathlib import Path

import msgspec
import pytest
from made_tokens import Documents, write_output

from asynckit.tokenization.outputs import manifest
from asynckit.tokenization.outputs.shards import ShardSettings

PAGE = (Path(__file__).parents[4] / "docs" / "tokenize-outputs.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOCUMENTS: Documents = [[11, 12, 13, 0], [21, 22, 0], [31, 32, 33, 34, 35, 0]]


def examples() -> list[tuple[str, str, str]]:
    """Heading, code and output of each."""
    sections = re.split(r"^##+ ", PAGE, flags=re.MULTILINE)[1:]
    return [
        (section.partition("\n")[0], code, output)
        for section in sections
        for code, output in EXAMPLE.findall(section)
    ]


def settings_for(heading: str) -> ShardSettings:
    """Those of the folder that the examples under a heading read."""
    name = heading.split(",", maxsplit=1)[0].lower()
    file_format = {"numpy": "npy", "parquet": "parquet", "arrow": "arrow"}.get(name, "megatron")
    packed = "packed" in heading
    return ShardSettings(file_format, 1000, ("corpus.jsonl",), 8 if packed else None, packed)


@pytest.mark.parametrize(("heading", "code", "output"), examples())
def test_an_example_prints_what_the_page_shows(
    heading: str,
    code: str,
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """People copy them."""
    write_output(tmp_path / "tokens", [[DOCUMENTS]], settings_for(heading))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, heading, "exec"), {})  # noqa: S102 - our own documentation
    assert capsys.readouterr().out == output


def test_every_python_block_is_an_example_with_its_output() -> None:
    """None is left out of the test above."""
    assert len(examples()) == PAGE.count("```python\n") >= 7


def test_the_page_has_every_key_of_the_manifest() -> None:
    """Programs are written from this table."""
    structs = (
        manifest.Manifest,
        manifest.TokenizerRecord,
        manifest.EncoderRecord,
        manifest.Totals,
        manifest.InputRecord,
        manifest.ShardRecord,
        manifest.FileRecord,
    )
    table = PAGE.partition("## The manifest")[2].partition("## ")[0]
    names = {field.name for struct in structs for field in msgspec.structs.fields(struct)}
    assert [name for name in sorted(names) if f"`{name}`" not in table] == []
