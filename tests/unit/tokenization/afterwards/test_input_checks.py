"""Inputs that changed are named, and tokens that the reference would not make are found."""

import gzip
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tokenized import replace_file

from asynckit.cluster.config import RayConfig
from asynckit.config.values import plain
from asynckit.errors import InputError
from asynckit.models.config import ModelConfig
from asynckit.tokenization.afterwards.findings import Verification
from asynckit.tokenization.afterwards.input_checks import check_inputs
from asynckit.tokenization.afterwards.verifying import verify
from asynckit.tokenization.afterwards.vocabulary import open_vocabulary
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.inputs.places import shown_name
from asynckit.tokenization.outputs.dataset import TokenDataset
from asynckit.tokenization.outputs.manifest import read_manifest, write_manifest
from asynckit.tokenization.records import Source
from asynckit.tokenization.run import tokenize

WORDS = ["fox", "dog", "jumps over", "lazy", "1 2 3", "é 世 🙂", "answer: forty two", "\n\n"]


def made(folder: Path, tokenizer: Path, **changes: Any) -> Path:
    """The output of a real run over two files, of which one is compressed, and both have broken lines."""
    chance = random.Random(0)  # noqa: S311 - no secret depends on it
    lines = [
        json.dumps({"text": " ".join(chance.choices(WORDS, k=chance.randint(0, 40)))}) for _ in range(60)
    ]
    (folder / "a.jsonl").write_text("\n".join([*lines[:9], "{", *lines[9:]]) + "\n")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n".join([*reversed(lines), "[]"]).encode()))
    settings: dict[str, Any] = {
        "unit_bytes": 1 << 10,
        "shard_bytes": 3 << 10,
        "on_error": "skip",
        "workers": 1,
    }
    inputs = [str(folder / "a.jsonl"), str(folder / "b.jsonl.gz")]
    return tokenized(inputs, folder / "out", tokenizer, **settings | changes)


def tokenized(inputs: list[str], out: Path, tokenizer: Path, **settings: Any) -> Path:
    """What ``asynckit tokenize`` makes of these inputs."""
    config = TokenizationConfig(out=str(out), **settings)
    tokenize(
        inputs,
        model=ModelConfig(tokenizer=str(tokenizer)),
        config=config,
        ray=RayConfig(),
        options=plain(config, identity=True),
        overwrite=False,
        quiet=True,
    )
    return out


def checked(folder: Path, share: float) -> Verification:
    dataset = TokenDataset.open(folder)
    result = verify(dataset, lambda _: None)
    vocabulary = open_vocabulary(dataset.manifest.tokenizer, ModelConfig())
    check_inputs(dataset, vocabulary, share, result, lambda _: None)
    return result


def change(folder: Path, **changes: Any) -> None:
    """Another manifest."""
    write_manifest(folder, msgspec.structs.replace(read_manifest(folder), **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"eos": "add"},
        {"format": "npy", "pack_length": 64},
        {"format": "parquet", "pack_length": 64, "packing": "concatenate", "max_length": 50},
        {"format": "arrow", "eos": "none"},
    ],
)
def test_what_has_not_changed_holds(tmp_path: Path, tiny_tokenizer: Path, changes: Mapping[str, Any]) -> None:
    """Ranges, streams, skipped lines, packing and truncation are all done again as they were."""
    result = checked(made(tmp_path, tiny_tokenizer, **changes), 1.0)
    assert result.broken == []
    assert result.check("inputs").covers == "2 of 2 inputs, 120 records"
    assert result.check("reference").covers == "120 of 120 documents"


def test_a_share_is_drawn_by_the_places_alone(tmp_path: Path, tiny_tokenizer: Path) -> None:
    """The same documents every time, and about as many as were asked for."""
    folder = made(tmp_path, tiny_tokenizer)
    covers = {checked(folder, 0.5).check("reference").covers for _ in range(2)}
    assert len(covers) == 1
    (cover,) = covers
    assert 40 <= int(cover.split()[0]) <= 80
    assert "with 95 % confidence" in cover
    assert checked(folder, 0.0).check("reference").verdict == "not checked"


def test_a_share_of_whole_files_is_drawn(tmp_path: Path, tiny_tokenizer: Path) -> None:
    """Each begins at its byte 0, and yet some are drawn and some are not."""
    (tmp_path / "texts").mkdir()
    for number in range(60):
        (tmp_path / "texts" / f"{number}.txt").write_text(f"text {number}")
    folder = tokenized([str(tmp_path / "texts")], tmp_path / "out", tiny_tokenizer, workers=1)
    assert 20 <= int(checked(folder, 0.5).check("reference").covers.split()[0]) <= 40


def test_changed_and_missing_inputs_are_named(tmp_path: Path, tiny_tokenizer: Path) -> None:
    """With what to do; the others are still read."""
    folder = made(tmp_path, tiny_tokenizer)
    (tmp_path / "a.jsonl").write_text((tmp_path / "a.jsonl").read_text().replace("fox", "cat", 1))
    (tmp_path / "b.jsonl.gz").unlink()
    result = checked(folder, 1.0)
    changed, missing = result.check("inputs").findings
    assert (changed.where, changed.problem[:21]) == (str(tmp_path / "a.jsonl"), "it is not what it was")
    assert missing.where.endswith("b.jsonl.gz")
    assert missing.mend
    (difference,) = result.check("reference").findings
    assert "the reference's is" in difference.problem
    assert ", byte " in difference.where


def test_tokens_that_the_reference_does_not_make_are_found(tmp_path: Path, tiny_tokenizer: Path) -> None:
    """An engine that was wrong leaves digests that are right."""
    folder = made(tmp_path, tiny_tokenizer)
    tokens = np.fromfile(folder / "data-00001.bin", np.uint16)
    tokens[3] ^= 1
    replace_file(folder, "data-00001.bin", tokens.tobytes())
    (check,) = checked(folder, 1.0).broken
    assert check.name == "reference"
    assert "token 3 is" in check.findings[0].problem
    assert "--encoder tokenizers" in check.findings[0].mend


def test_damaged_shards_are_not_compared(tmp_path: Path, tiny_tokenizer: Path) -> None:
    """What a wrong token says about the encoder is nothing then; the inputs are still checked."""
    folder = made(tmp_path, tiny_tokenizer)
    (folder / "data-00000.bin").write_bytes(b"")
    result = checked(folder, 1.0)
    assert [check.name for check in result.broken] == ["files"]
    assert result.check("reference").covers == "nothing: the shards are damaged"
    assert result.check("inputs").verdict == "holds"


def test_standard_input_is_gone(tmp_path: Path, tiny_tokenizer: Path) -> None:
    """It is not said to hold."""
    folder = made(tmp_path, tiny_tokenizer)
    manifest = read_manifest(folder)
    name = shown_name(Source("-", "jsonl"))
    change(folder, inputs=tuple(msgspec.structs.replace(each, name=name) for each in manifest.inputs))
    result = checked(folder, 1.0)
    assert result.check("inputs").covers == "nothing: standard input cannot be read again"
    assert result.check("reference").verdict == "not checked"


@pytest.mark.parametrize("options", [{"unheard_of": 1}, {"unit_bytes": "many"}])
def test_settings_of_another_version_are_refused(
    tmp_path: Path, tiny_tokenizer: Path, options: Mapping[str, Any]
) -> None:
    """Reading by other settings would find differences that are none."""
    folder = made(tmp_path, tiny_tokenizer)
    change(folder, options={**read_manifest(folder).options, **options})
    with pytest.raises(InputError, match="not those of this version"):
        checked(folder, 1.0)
