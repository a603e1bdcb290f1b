"""What the sides of the comparison have written, read back as one fingerprint per document."""

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MEGATRON = struct.Struct("<9sQBQQ")
_DTYPES: dict[int, type[np.integer[Any]]] = {4: np.int32, 8: np.uint16}


def megatron(folder: Path, names: str = "*.idx") -> list[bytes]:
    """Documents of every ``.bin`` and ``.idx`` of a folder, in the order of the names."""
    return [each for index in sorted(folder.glob(names)) for each in _fingerprints(*_read_megatron(index))]


def datatrove(folder: Path) -> list[bytes]:
    """Documents of every ``.ds`` file, which has 2 bytes per token for vocabularies of up to 65,536."""
    found: list[bytes] = []
    for path in sorted(folder.glob("*.ds")):
        ends = np.fromfile(path.with_name(f"{path.name}.index"), np.uint64).astype(np.int64)
        tokens = np.fromfile(path, np.uint16 if ends[-1] * 2 == path.stat().st_size else np.uint32)
        found += _fingerprints(tokens, np.concatenate(([0], ends)))
    return found


def datasets(folder: Path) -> list[bytes]:
    """Rows of ``input_ids`` of the Arrow files that ``datasets`` saves."""
    import pyarrow as pa

    found: list[bytes] = []
    for path in sorted((folder / "tokens").glob("data-*.arrow")):
        with pa.memory_map(str(path)) as file:
            for batch in pa.ipc.open_stream(file):
                rows = batch.column("input_ids")
                offsets = rows.offsets.to_numpy().astype(np.int64)
                tokens = rows.values.to_numpy()
                found += _fingerprints(tokens, offsets)
    return found


def _read_megatron(path: Path) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Tokens, and where documents begin and end among them."""
    content = path.read_bytes()
    magic, version, code, sequences, documents = _MEGATRON.unpack_from(content)
    assert (magic, version) == (b"MMIDIDX\0\0", 1), path
    lengths = np.frombuffer(content, np.int32, sequences, _MEGATRON.size)
    firsts = np.frombuffer(content, np.int64, documents, _MEGATRON.size + 12 * sequences)
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    tokens = np.fromfile(path.with_suffix(".bin"), _DTYPES[code])
    assert len(tokens) == offsets[-1], path
    return tokens, offsets[firsts]


def _fingerprints(tokens: NDArray[Any], offsets: NDArray[np.int64]) -> Iterator[bytes]:
    for first, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        ids = tokens[first:end].astype("<u4")
        yield hashlib.blake2b(ids.tobytes(), digest_size=16).digest()
