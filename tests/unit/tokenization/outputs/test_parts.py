"""Parts: what a unit became, on the disk until its shard is written."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokens import largest_file, unpacked

from asynckit.errors import WorkFailed
from asynckit.tokenization.outputs.dtypes import token_dtype
from asynckit.tokenization.outputs.parts import DamagedPart, Part, read_header, read_part, write_part
from asynckit.tokenization.records import Sequences

UINT16 = np.dtype("<u2")


def written(path: Path, sequences: Sequences) -> Part:
    write_part(path, sequences, {"lines": 3, "skipped": []}, source=1, dtype=UINT16)
    return read_part(path)


@pytest.mark.parametrize("loss_mask", [False, True])
def test_a_part_gives_back_what_was_written(tmp_path: Path, loss_mask: bool) -> None:
    """Every array and the note survive the disk."""
    sequences = unpacked([[1, 2, 3], [], [65_535]], loss_mask=loss_mask)
    part = written(tmp_path / "a.part", sequences)
    assert part.note == {"lines": 3, "skipped": []}
    assert part.header.source == 1
    assert part.tokens.dtype == UINT16
    for name in ("tokens", "lengths", "span_documents", "span_firsts", "span_tokens", "starts", "ends"):
        np.testing.assert_array_equal(getattr(part, name), getattr(sequences, name))
    np.testing.assert_array_equal(part.loss_mask, sequences.loss_mask)


def test_a_part_of_nothing_can_be_read(tmp_path: Path) -> None:
    """A unit may have no record at all."""
    part = written(tmp_path / "a.part", unpacked([]))
    assert len(part.tokens) == len(part.lengths) == 0


def test_the_header_has_the_counts(tmp_path: Path) -> None:
    """A shard's size is known before any token is read."""
    written(tmp_path / "a.part", unpacked([[1, 2], []]))
    header = read_header(tmp_path / "a.part")
    assert (header.length("tokens"), header.length("lengths"), header.length("loss_mask")) == (2, 2, 0)
    assert (header.segments, header.padding) == (1, 0)


def test_the_same_unit_gives_the_same_bytes(tmp_path: Path) -> None:
    """Nothing of the time or the process is in a part, and no hidden file stays."""
    for name in ("a.part", "b.part"):
        written(tmp_path / name, unpacked([[1, 2], [3]]))
    assert (tmp_path / "a.part").read_bytes() == (tmp_path / "b.part").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@settings(deadline=None)  # it writes files
@given(data=st.data())
def test_a_torn_part_is_noticed(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A power cut leaves files that are short, or have zeros where bytes should be."""
    path = tmp_path_factory.getbasetemp() / "torn.part"
    written(path, unpacked([[7] * 50, [9] * 30]))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[at:]
    else:
        content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(DamagedPart, match="run the same command again"):
        read_part(path)


def test_a_part_of_any_shorter_length_is_noticed(tmp_path: Path) -> None:
    """Cut off anywhere, also in the header."""
    path = tmp_path / "a.part"
    written(path, unpacked([[7, 8]]))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedPart):
            read_part(path)


def test_a_missing_part_is_damaged_too(tmp_path: Path) -> None:
    """The unit is done again, whatever happened to its part."""
    with pytest.raises(DamagedPart) as caught:
        read_part(tmp_path / "none.part")
    assert caught.value.where == str(tmp_path / "none.part")


def test_an_id_beyond_the_dtype_is_refused(tmp_path: Path) -> None:
    """Ids never wrap around."""
    with pytest.raises(WorkFailed, match="65536"):
        written(tmp_path / "a.part", unpacked([[65_536]]))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """What was written of the part would only take room."""
    with largest_file(100), pytest.raises(WorkFailed, match="free some space") as caught:
        written(tmp_path / "a.part", unpacked([[1] * 100]))
    assert caught.value.where == str(tmp_path / "a.part")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_refuses_is_an_error_for_the_person(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(WorkFailed, match="cannot be written") as caught:
        written(tmp_path / "no folder" / "a.part", unpacked([[1]]))
    assert caught.value.where.endswith("a.part")


@pytest.mark.parametrize(
    ("file_format", "vocabulary", "dtype"),
    [
        ("megatron", 65_499, "uint16"),
        ("megatron", 65_500, "int32"),
        ("npy", 65_536, "uint16"),
        ("npy", 65_537, "int32"),
        ("parquet", 100, "int32"),
        ("arrow", 100, "int32"),
    ],
)
def test_the_dtype_is_what_the_readers_expect(file_format: str, vocabulary: int, dtype: str) -> None:
    """Megatron's border is its own."""
    assert token_dtype(file_format, vocabulary).name == dtype
