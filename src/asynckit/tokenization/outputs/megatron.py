"""Shards as Megatron-core's ``IndexedDataset`` reads them: tokens in ``.bin``, their places in ``.idx``.

The index, as ``megatron/core/datasets/indexed_dataset.py`` has it, little-endian and without gaps::

    9  b"MMIDIDX" and two zeros
    8  version 1, uint64
    1  code of the tokens' dtype, uint8: 4 int32, 8 uint16
    8  number S of sequences, uint64
    8  number D + 1 of document borders, uint64
    4  S lengths of the sequences, in tokens, int32
    8  S places of the sequences in .bin, in bytes, int64
    8  D + 1 document borders, in sequences, int64: the first is 0 and the last S

Every sequence is a document to Megatron, packed or not, since it cuts and joins documents itself.
"""

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asynckit.errors import WorkFailed
from asynckit.tokenization.outputs.hashed_files import HashedFile, hashed_file
from asynckit.tokenization.outputs.numpy_files import write_loss_mask

if TYPE_CHECKING:
    from asynckit.tokenization.outputs.shards import Assembly

INDEX_MAGIC = b"MMIDIDX\x00\x00"
INDEX_HEADER = struct.Struct("<9sQBQQ")
DTYPE_CODES = {np.dtype("<i4"): 4, np.dtype("<u2"): 8}
_AT_A_TIME = 1 << 20


def write_megatron(assembly: "Assembly") -> None:
    """Write ``.bin``, ``.idx``, and ``.loss_mask.npy`` where there is a loss mask.

    Raises:
        DamagedPart: a part is missing or torn.
        WorkFailed: the disk refuses, or a sequence has 2^31 tokens or more.
    """
    with hashed_file(assembly.file(".bin"), assembly.files) as file:
        for part, _, _ in assembly.each(check=True):
            file.write_array(part.tokens)
    with hashed_file(assembly.file(".idx"), assembly.files) as file:
        _write_index(assembly, file)
    write_loss_mask(assembly)


def _write_index(assembly: "Assembly", file: HashedFile) -> None:
    sequences, dtype = assembly.total("lengths"), assembly.settings.dtype
    file.write(INDEX_HEADER.pack(INDEX_MAGIC, 1, DTYPE_CODES[dtype], sequences, sequences + 1))
    for part, _, _ in assembly.each():
        file.write_array(_as_int32(part.lengths))
    for part, _, first_token in assembly.each():
        firsts = first_token + np.cumsum(part.lengths) - part.lengths
        file.write_array((firsts * dtype.itemsize).astype("<i8"))
    for begin in range(0, sequences + 1, _AT_A_TIME):
        file.write_array(np.arange(begin, min(begin + _AT_A_TIME, sequences + 1), dtype="<i8"))


def _as_int32(lengths: NDArray[np.int64]) -> NDArray[Any]:
    longest = int(lengths.max(initial=0))
    if longest > np.iinfo(np.int32).max:
        mend = "set tokenization.max_length, or write --format npy"
        raise WorkFailed(f"a document has {longest} tokens, more than Megatron can index", mend=mend)
    return lengths.astype("<i4")
