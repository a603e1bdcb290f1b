"""Output folders with real text, as ``asynckit tokenize`` leaves them: inputs, tokens and a true manifest."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from made_tokens import manifest_of, packed, unpacked

from asynckit.models.config import ModelConfig
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.models.tokenizer_parts import load_parts, parts_digest
from asynckit.tokenization.outputs.manifest import (
    FileRecord,
    InputRecord,
    Manifest,
    ShardRecord,
    TokenizerRecord,
    read_manifest,
    write_manifest,
)
from asynckit.tokenization.outputs.parts import write_part
from asynckit.tokenization.outputs.shards import ShardSettings, write_shard

TEXTS = {
    "news.jsonl": ["The cat sat on the mat.", "Über Köln scheint die Sonne.", "x" * 300],
    "more.jsonl": ["猫が座った。🦊", "a\tb\nc", "", "The end."],
}
EOS = 2  # of the embedded tokenizer


@cache
def embedded() -> tuple[LightTokenizer, str]:
    """The embedded model's tokenizer and its digest."""
    parts = load_parts(ModelConfig())
    return LightTokenizer(parts), parts_digest(parts)


def write_tokenized(
    folder: Path,
    texts: Mapping[str, Sequence[str]] = TEXTS,
    *,
    file_format: str = "megatron",
    pack_length: int | None = None,
    loss_mask: bool = False,
    eos: bool = True,
) -> Manifest:
    """Write the inputs beside ``folder``, and their tokens by the embedded tokenizer in a shard for each."""
    tokenizer, digest_of_tokenizer = embedded()
    names = tuple(str(folder.parent / name) for name in texts)
    settings = ShardSettings(file_format, tokenizer.vocabulary, names, pack_length, loss_mask)
    (folder / ".work").mkdir(parents=True)
    shards: list[ShardRecord] = []
    inputs: list[InputRecord] = []
    for number, its in enumerate(texts.values()):
        content, starts = _write_input(Path(names[number]), its)
        documents = [tokenizer.encode(text, add_special_tokens=False) + [EOS] * eos for text in its]
        made = packed(documents, pack_length, loss_mask=loss_mask) if pack_length else None
        sequences = replace(
            made or unpacked(documents, loss_mask=loss_mask),
            starts=starts[:-1],
            ends=starts[1:],
        )
        if pack_length and sequences.loss_mask is not None:
            sequences.loss_mask[sequences.tokens == 0] = 0
        part = folder / ".work" / f"{number}.part"
        write_part(part, sequences, {}, source=number, dtype=settings.dtype)
        before = (sum(each.documents for each in shards), sum(each.tokens for each in shards))
        shards.append(write_shard(folder, number, [part], settings, *before))
        tokens = sum(map(len, documents))
        digest = hashlib.sha256(content).hexdigest()
        inputs.append(
            InputRecord(names[number], "jsonl", "", len(content), digest, len(documents), tokens, 0)
        )
    record = TokenizerRecord(
        "smollm2-135m-instruct", digest_of_tokenizer, tokenizer.vocabulary, bos=1, eos=EOS, pad=0
    )
    made_up = manifest_of(shards, settings)
    kept = {name: getattr(made_up, name) for name in made_up.__struct_fields__}
    manifest = Manifest(**kept | {"tokenizer": record, "inputs": tuple(inputs)})
    write_manifest(folder, manifest)
    return manifest


def _write_input(path: Path, texts: Sequence[str]) -> tuple[bytes, np.ndarray]:
    """Write the records; returns the file's bytes and where each begins, with the end of the last."""
    lines = [json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n" for text in texts]
    path.write_bytes(b"".join(lines))
    return b"".join(lines), np.cumsum([0, *map(len, lines)])


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Write another file and put its digest into the manifest: what a faulty writer would leave."""
    (folder / name).write_bytes(content)
    record = FileRecord(name, len(content), hashlib.sha256(content).hexdigest())
    manifest = read_manifest(folder)
    shards = [
        msgspec.structs.replace(
            shard, files=tuple(record if each.name == name else each for each in shard.files)
        )
        for shard in manifest.shards
    ]
    write_manifest(folder, msgspec.structs.replace(manifest, shards=tuple(shards)))
