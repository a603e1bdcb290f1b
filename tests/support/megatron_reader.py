"""A reader of Megatron's ``.bin`` and ``.idx``, from the layout that its ``_IndexReader`` documents."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 8: np.uint16}


class MegatronReader:
    """What ``IndexedDataset`` gives: sequences by number, and the borders of documents.

    Attributes:
        dtype: of the tokens.
        lengths: of the sequences, int32.
        pointers: of the sequences in ``.bin``, bytes, int64.
        document_indices: borders of documents, in sequences, int64.
    """

    def __init__(self, prefix: Path) -> None:
        index = prefix.with_name(prefix.name + ".idx").read_bytes()
        self.tokens = prefix.with_name(prefix.name + ".bin").read_bytes()
        assert index[:9] == b"MMIDIDX\x00\x00"
        assert int.from_bytes(index[9:17], "little") == 1
        self.dtype: Any = _DTYPES[index[17]]
        sequences = int.from_bytes(index[18:26], "little")
        borders = int.from_bytes(index[26:34], "little")
        self.lengths = np.frombuffer(index, np.int32, sequences, 34)
        self.pointers = np.frombuffer(index, np.int64, sequences, 34 + 4 * sequences)
        self.document_indices = np.frombuffer(index, np.int64, borders, 34 + 12 * sequences)
        assert len(index) == 34 + 12 * sequences + 8 * borders

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> NDArray[Any]:
        return np.frombuffer(self.tokens, self.dtype, int(self.lengths[index]), int(self.pointers[index]))
