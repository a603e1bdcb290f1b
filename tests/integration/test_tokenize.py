"""``asynckit tokenize`` as a person runs it."""

import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import environment
from tiny_models import save_tokenizer

from asynckit.tokenization.outputs.dataset import TokenDataset

TEXTS = [
    "def add(a, b):\n    return a + b\n",
    "Der schnelle braune Fuchs, 12345.67 €",
    "敏捷的棕色狐狸 جملة عربية\u200f 🙂🏽 e\u0301",
    "",
    "<|im_start|> <|endoftext|>x</s> <|im_",
    "\x00\x01\x1b[0m\t\r\n \u2028 \ufeff",
    "a" * 3000 + " " * 500 + "." * 700,
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizers") / "tiny"
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of all lengths; more than 60 units of 4 kB."""
    chance = random.Random(0)  # noqa: S311 - no secret depends on it
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    with path.open("w") as file:
        for _ in range(1500):
            text = " ".join(
                chance.choices(["fox", "over the lazy dog", "42", "é", "\n"], k=chance.randint(1, 80))
            )
            file.write(json.dumps({"text": text}) + "\n")
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "asynckit", "tokenize", *map(str, arguments), "--quiet", "--json"]


def run(
    *arguments: str | Path, text: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        check=False,
        capture_output=True,
        text=True,
        input=text,
        timeout=120,
        env=environment(**variables),
    )


def done(*arguments: str | Path, **options: Any) -> dict[str, Any]:
    ended = run(*arguments, **options)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def shards(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("data-*")}


@pytest.mark.embedded
def test_the_ids_are_those_of_transformers(tmp_path: Path) -> None:
    """For the built-in model's tokenizer, document by document, with EOS after each."""
    from transformers import AutoTokenizer

    from asynckit.models.config import ModelConfig
    from asynckit.models.resolve import resolve_tokenizer

    lines = [json.dumps({"text": text}) for text in TEXTS]
    found = done("-", "--input-format", "jsonl", "--out", tmp_path / "out", text="\n".join(lines))
    assert found["documents"] == len(TEXTS)
    reference = AutoTokenizer.from_pretrained(resolve_tokenizer(ModelConfig()))
    for (_, document), text in zip(TokenDataset.open(tmp_path / "out").documents(), TEXTS, strict=True):
        assert document.tolist() == [*reference(text).input_ids, reference.eos_token_id]


def test_what_is_complete_is_left_alone(tokenizer: Path, corpus: Path, tmp_path: Path) -> None:
    """Running again does nothing and says so; other settings are refused, unless the person says so."""
    arguments = (corpus, "-t", tokenizer, "-o", tmp_path / "out")
    assert not done(*arguments)["complete_before"]
    before = shards(tmp_path / "out")
    assert done(*arguments)["complete_before"]
    refused = run(*arguments, "--format", "npy")
    assert refused.returncode == 3
    assert "tokenization.format was 'megatron' and is 'npy'" in refused.stderr
    assert shards(tmp_path / "out") == before
    assert not done(*arguments, "--format", "npy", "--overwrite")["complete_before"]
    assert "data-00000.npy" in shards(tmp_path / "out")
    assert "data-00000.bin" not in shards(tmp_path / "out")


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_standard_input_that_tells_what_it_is_by_its_beginning(
    kind: str, tokenizer: Path, tmp_path: Path
) -> None:
    """Compressed data and CSV come to an end like any other; other data for the same output is refused."""
    content = {"jsonl": gzip.compress(b'{"text": "fox"}\n'), "csv": b"text\nfox\n"}[kind]
    arguments = command("-", "--input-format", kind, "-t", tokenizer, "-o", tmp_path / "out")

    def piped(data: bytes) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            arguments, check=False, capture_output=True, input=data, timeout=120, env=environment()
        )

    assert json.loads(piped(content).stdout)["documents"] == 1
    assert json.loads(piped(content).stdout)["complete_before"]
    other = piped(content.replace(b"fox", b"dog") if kind == "csv" else gzip.compress(b'{"text": "dog"}\n'))
    assert other.returncode == 4
    assert b"is not what the output was made of" in other.stderr


def test_an_output_inside_its_input_is_not_read(tokenizer: Path, tmp_path: Path) -> None:
    """By whatever way the input's folder is named."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.jsonl").write_text('{"text": "fox"}\n')
    (tmp_path / "link").symlink_to("corpus")
    for index, named in enumerate((str(tmp_path / "link"), f"{tmp_path}/x/../corpus")):
        (tmp_path / "x").mkdir(exist_ok=True)
        arguments = (named, "-t", tokenizer, "-f", "parquet", "-o", tmp_path / "corpus" / "tokens")
        assert done(*arguments, *["--overwrite"] * index)["documents"] == 1
        assert done(*arguments)["complete_before"]


def test_a_plan_for_nothing(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    ended = run(tmp_path / "empty.jsonl", "-t", tokenizer, "--plan")
    assert ended.returncode == 4
    assert "holds no document" in ended.stderr


def test_ctrl_c_keeps_what_was_finished(tokenizer: Path, corpus: Path, tmp_path: Path) -> None:
    """The command ends with 130 and says how to go on; nothing of it is left running."""
    out = tmp_path / "out"
    small = ("--set", "tokenization.unit_bytes=4096", "--encoder", "tokenizers", "-w", "1")
    todo = (corpus, "-t", tokenizer, "-o", out, *small)
    with subprocess.Popen(
        command(*todo),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_interrupts,  # noqa: PLW1509
    ) as process:
        wait_for_part(out, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "run the same command again" in errors
    assert list((out / ".work" / "parts").glob("*.part"))
    done(*todo)
    done(corpus, "-t", tokenizer, "-o", tmp_path / "whole", *small)
    assert shards(out) == shards(tmp_path / "whole")


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell in the background ignores it for its children


def wait_for_part(out: Path, process: "subprocess.Popen[str]") -> None:
    """Until a unit is done and the command is still at work."""
    deadline = time.monotonic() + 60
    while not list(out.glob(".work/parts/*.part")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        os.sched_yield()


def test_a_cluster_writes_the_same_bytes(
    tokenizer: Path, corpus: Path, tmp_path: Path, shared_ray: dict[str, str]
) -> None:
    """Workers on Ray and workers here, ranges and streams."""
    small = ("-t", tokenizer, "--set", "tokenization.unit_bytes=16384", "-w", "2", "--format", "parquet")
    inputs = (corpus, "-", "--input-format", "jsonl")
    text = corpus.read_text()[:20000].rpartition("\n")[0]
    found = done(*inputs, "-o", tmp_path / "ray", *small, "--ray", text=text, **shared_ray)
    assert found == {**done(*inputs, "-o", tmp_path / "here", *small, text=text), **differing(found)}
    assert shards(tmp_path / "ray") == shards(tmp_path / "here")


def differing(found: dict[str, Any]) -> dict[str, Any]:
    """What is not the same from run to run."""
    return {name: found[name] for name in ("out", "seconds")}


def test_the_plan_comes_true(tokenizer: Path, corpus: Path, tmp_path: Path) -> None:
    """The number of tokens lies in the interval, and nothing is left on the disk."""
    plan = done(corpus, "-t", tokenizer, "--plan", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    found = done(corpus, "-t", tokenizer, "-o", tmp_path / "out")
    assert plan["tokens_low"] <= found["tokens"] <= plan["tokens_high"]
    written = sum(path.stat().st_size for path in (tmp_path / "out").glob("data-*"))
    assert plan["output_bytes"] == pytest.approx(written, rel=0.5)


def test_the_plan_counts_what_is_compressed(tokenizer: Path, corpus: Path, tmp_path: Path) -> None:
    """A file whose content is many times what is stored must not be taken for a small one."""
    with gzip.open(tmp_path / "most.jsonl.gz", "wb") as file:
        file.write(corpus.read_bytes() * 20)
    plan = done(corpus, tmp_path / "most.jsonl.gz", "-t", tokenizer, "--plan")
    assert plan["documents"] == pytest.approx(21 * 1500, rel=0.02)
    assert plan["input_bytes"] == pytest.approx(21 * corpus.stat().st_size, rel=0.1)


def test_there_is_no_plan_of_nothing(tokenizer: Path, tmp_path: Path) -> None:
    """Empty files are the inputs' fault, not a bug."""
    (tmp_path / "empty.jsonl").touch()
    ended = run(tmp_path / "empty.jsonl", "-t", tokenizer, "--plan")
    assert (ended.returncode, "no document" in ended.stderr) == (4, True), ended.stderr
