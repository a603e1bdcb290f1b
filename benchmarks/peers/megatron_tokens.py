"""JSONL to ``.bin`` and ``.idx`` as ``tools/preprocess_data.py`` of Megatron-LM does it, in one file.

The same parts: ``Pool.imap`` with chunks of 32 lines, one ``encode`` per document in the workers, lists of
ids back to the process that writes; with partitions, the lines dealt to as many files, a pool for each, and
the results joined. Encoding is the Rust library's ``encode`` itself, which is faster than the classes that
Megatron wraps around it.
"""

import argparse
import json
import multiprocessing
import shutil
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

_CHUNK = 32
_HEADER = struct.Struct("<9sQBQQ")


class Encoder:
    """What a worker does with a line."""

    tokenizer: Tokenizer
    eos: int | None

    def __init__(self, tokenizer: str, eos: str) -> None:
        self._tokenizer, self._eos = tokenizer, eos

    def initialize(self) -> None:
        """Load the tokenizer, once per worker."""
        Encoder.tokenizer = Tokenizer.from_file(self._tokenizer)
        Encoder.eos = Encoder.tokenizer.token_to_id(self._eos)

    def encode(self, line: str) -> tuple[dict[str, list[int]], dict[str, list[int]], int]:
        """The ids of a document, the lengths of its sentences, and the characters of its line."""
        ids: list[int] = []
        lengths: list[int] = []
        found = Encoder.tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids
        if found:
            ids.extend(found)
            lengths.append(len(found))
            assert Encoder.eos is not None
            ids.append(Encoder.eos)
            lengths[-1] += 1
        return {"text": ids}, {"text": lengths}, len(line)


class Builder:
    """Writes documents one after another, and the index at the end."""

    def __init__(self, prefix: Path, dtype: type[np.uint16] | type[np.int32]) -> None:
        self._index, self._dtype = prefix.with_suffix(".idx"), dtype
        self._data: BinaryIO = prefix.with_suffix(".bin").open("wb")
        self._lengths: list[int] = []
        self._documents = [0]

    def add_document(self, ids: list[int], lengths: list[int]) -> None:
        """Append a document."""
        self._data.write(np.array(ids, dtype=self._dtype).tobytes(order="C"))
        self._lengths.extend(lengths)
        self._documents.append(len(self._lengths))

    def add_index(self, prefix: Path) -> None:
        """Append what another builder has written."""
        lengths, documents = read_index(prefix.with_suffix(".idx"))
        offset = len(self._lengths)
        self._lengths.extend(lengths.tolist())
        self._documents.extend((offset + documents)[1:].tolist())
        with prefix.with_suffix(".bin").open("rb") as data:
            shutil.copyfileobj(data, self._data)

    def finalize(self) -> None:
        """Close the data and write the index."""
        self._data.close()
        lengths = np.array(self._lengths, dtype=np.int32)
        size = np.dtype(self._dtype).itemsize
        pointers = np.cumsum(lengths, dtype=np.int64) * size - lengths * size
        code = 8 if self._dtype is np.uint16 else 4
        with self._index.open("wb") as index:
            index.write(_HEADER.pack(b"MMIDIDX\0\0", 1, code, len(lengths), len(self._documents)))
            for array in (lengths, pointers, np.array(self._documents, dtype=np.int64)):
                index.write(array.tobytes(order="C"))


def read_index(path: Path) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Lengths of the sequences, and the sequences that documents begin with."""
    content = path.read_bytes()
    _, _, _, sequences, documents = _HEADER.unpack_from(content)
    lengths = np.frombuffer(content, np.int32, sequences, _HEADER.size)
    return lengths, np.frombuffer(content, np.int64, documents, _HEADER.size + 12 * sequences)


def process_file(path: Path, prefix: Path, options: argparse.Namespace, workers: int) -> None:
    """Encode one file in a pool of its own."""
    encoder = Encoder(str(options.tokenizer), options.eos)
    builder = Builder(prefix, dtype_of(options.tokenizer))
    with (
        path.open(encoding="utf-8") as lines,
        multiprocessing.Pool(workers, initializer=encoder.initialize) as pool,
    ):
        for ids, lengths, _ in pool.imap(encoder.encode, lines, _CHUNK):
            builder.add_document(ids["text"], lengths["text"])
        builder.finalize()
        pool.close()
        pool.join()


def dtype_of(tokenizer: Path) -> type[np.uint16] | type[np.int32]:
    """Megatron's choice for a vocabulary."""
    return np.uint16 if Tokenizer.from_file(str(tokenizer)).get_vocab_size() < 65500 else np.int32


def deal(path: Path, out: Path, partitions: int) -> list[Path]:
    """Deal the lines of a file to as many files."""
    parts = [out / f"part_{index}.jsonl" for index in range(partitions)]
    files = [part.open("w", encoding="utf-8") for part in parts]
    with path.open(encoding="utf-8") as lines:
        for index, line in enumerate(lines):
            files[index % partitions].write(line)
    for file in files:
        file.close()
    return parts


def main() -> None:
    """Encode a file, whole or in partitions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="a JSONL file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="a tokenizer.json")
    parser.add_argument("--eos", required=True, help="text of the token after each document")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--workers", type=int, required=True, help="of all partitions together")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    workers = options.workers // options.partitions
    if options.partitions == 1:
        process_file(options.input, options.out / "text_document", options, workers)
        return
    parts = deal(options.input, options.out, options.partitions)
    prefixes = [part.with_suffix("") for part in parts]
    processes = [
        multiprocessing.Process(target=process_file, args=(part, prefix, options, workers))
        for part, prefix in zip(parts, prefixes, strict=True)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    whole = Builder(options.out / "text_document", dtype_of(options.tokenizer))
    for prefix in prefixes:
        whole.add_index(prefix)
    whole.finalize()


if __name__ == "__main__":
    main()
