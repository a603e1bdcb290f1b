"""What docs/tokenize-modes.md shows is what the command does, and its table is what can be set."""

import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from command_line import environment

from asynckit.models import embedded
from asynckit.models.config import ModelConfig
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.outputs.dataset import TokenDataset

PAGE = (Path(__file__).parents[2] / "docs" / "tokenize-modes.md").read_text(encoding="utf-8")
LAID_OUT = re.findall(r"```sh\n(.+?)\n```\n\n```json\n(.+?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
REFUSED = re.findall(r"```console\n\$ (.+?)\n(.+?)\n```\n\n```json\n(.+?)```", PAGE, re.DOTALL)

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(embedded.find_gguf() is None, reason="the embedded model is not installed"),
]


def run(line: str, records: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line of the page on its records."""
    words = shlex.split(line)
    (folder / words[2]).write_text(records, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", *words, "--workers", "1", "--quiet"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def shown(folder: Path) -> str:
    """The sequences as the page shows them."""
    dataset = TokenDataset.open(folder)
    tokenizer = LightTokenizer.load(ModelConfig())
    tokens, mask = dataset.tokens().tolist(), dataset.loss_mask()
    ends = np.cumsum(np.concatenate([shard.lengths() for shard in dataset.shards])).tolist()
    lines = []
    for start, end in zip([0, *ends], ends, strict=False):
        texts = [tokenizer.token_text(id_).replace("\n", "↵") for id_ in tokens[start:end]]
        learned = [0] * len(texts) if mask is None else mask[start:end].tolist()
        around = zip(texts, learned, [0, *learned], [*learned[1:], 0], strict=False)
        lines.append(
            "·".join("«" * (on > last) + text + "»" * (on > then) for text, on, last, then in around)
        )
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(("line", "records", "expected"), LAID_OUT, ids=[line for line, *_ in LAID_OUT])
def test_examples_give_the_tokens_that_are_shown(
    line: str, records: str, expected: str, tmp_path: Path
) -> None:
    """From a file to tokens and masks."""
    done = run(line, records, tmp_path)
    assert done.returncode == 0, done.stderr
    assert shown(tmp_path / "tokens") == expected


@pytest.mark.parametrize(("line", "error", "records"), REFUSED, ids=[line for line, *_ in REFUSED])
def test_examples_give_the_errors_that_are_shown(line: str, error: str, records: str, tmp_path: Path) -> None:
    """With the place and the mend."""
    done = run(line, records, tmp_path)
    assert done.returncode == 4
    assert error in " ".join(done.stderr.split())


def test_there_are_examples() -> None:
    """The page's format is the one that is looked for."""
    assert len(LAID_OUT) == PAGE.count("```text\n")
    assert len(REFUSED) == PAGE.count("```console\n")


def test_the_table_has_the_defaults() -> None:
    """A default that changes has to change on the page."""
    rows = dict(re.findall(r"^\| `tokenization\.(\w+)` \| `?(\w+)`? \|", PAGE, re.MULTILINE))
    defaults = {part.name: getattr(TokenizationConfig(), part.name) for part in fields(TokenizationConfig)}
    assert rows == {name: str(defaults[name] or "none") for name in rows}
    assert len(rows) >= 11
