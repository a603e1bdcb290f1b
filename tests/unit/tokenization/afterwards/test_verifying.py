"""Verifying finds each kind of damage, says where it is, and finds nothing in a folder that is whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_tokens import write_output
from tokenized import replace_file, write_tokenized

from asynckit.errors import InputError, WorkFailed
from asynckit.tokenization.afterwards.findings import Check, Verification
from asynckit.tokenization.afterwards.verifying import CLAIMS, verify
from asynckit.tokenization.outputs.dataset import TokenDataset
from asynckit.tokenization.outputs.manifest import read_manifest, write_manifest
from asynckit.tokenization.outputs.shards import ShardSettings

FORMATS = ("megatron", "npy", "parquet", "arrow")


def verified(folder: Path) -> Verification:
    return verify(TokenDataset.open(folder), lambda _: None)


def broken(folder: Path) -> dict[str, str]:
    """The first problem of each check that does not hold."""
    return {check.name: check.findings[0].problem for check in verified(folder).broken}


def rewrite(folder: Path, name: str, change: Callable[[bytearray], Any]) -> None:
    """Change a file and put its new digest into the manifest: what a faulty writer would leave."""
    content = bytearray((folder / name).read_bytes())
    change(content)
    replace_file(folder, name, bytes(content))


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("pack_length", [None, 64])
@pytest.mark.parametrize("loss_mask", [False, True])
def test_a_whole_folder_holds(
    tmp_path: Path, file_format: str, pack_length: int | None, loss_mask: bool
) -> None:
    """In every format, packed or not, with a loss mask or without."""
    folder = tmp_path / "out"
    write_tokenized(folder, file_format=file_format, pack_length=pack_length, loss_mask=loss_mask)
    found = verified(folder)
    assert found.broken == []
    unchecked = [check.name for check in found.checks if check.verdict == "not checked"]
    assert unchecked == [*([] if loss_mask else ["masks"]), "inputs", "reference"]
    assert [check.name for check in found.checks] == list(CLAIMS)
    found.raise_for_findings()


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_byte_counts(tmp_path: Path, file_format: str) -> None:
    """A flipped bit in any file is found by its digest, whatever else it breaks."""
    folder = tmp_path / "out"
    write_tokenized(folder, file_format=file_format, pack_length=64, loss_mask=True)
    for path in sorted(folder.glob("data-*")):
        whole = path.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            first = verified(folder).broken[0]
            assert (first.name, first.findings[0].where) == ("files", str(path))
        path.write_bytes(whole)


@pytest.mark.parametrize("file_format", FORMATS)
def test_files_that_are_missing_cut_or_too_many_are_named(tmp_path: Path, file_format: str) -> None:
    """Each with what is wrong with it; the other shards are still looked at."""
    folder = tmp_path / "out"
    write_tokenized(folder, file_format=file_format)
    name = read_manifest(folder).shards[0].files[0].name
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    assert "bytes instead of" in broken(folder)["files"]
    (folder / name).unlink()
    (folder / "data-00007.bin").write_bytes(b"")
    found = verified(folder)
    assert [check.name for check in found.broken] == ["files"]
    assert [each.problem.partition(":")[0] for each in found.broken[0].findings] == [
        "cannot be read",
        "the manifest has no such file",
    ]
    with pytest.raises(WorkFailed, match="1 of 8 checks") as caught:
        found.raise_for_findings()
    assert caught.value.mend


def test_ids_outside_the_vocabulary_are_found(tmp_path: Path) -> None:
    """Also where the digest is that of the wrong bytes."""
    folder = tmp_path / "out"
    write_tokenized(folder)
    rewrite(folder, "data-00001.bin", lambda content: content.__setitem__(slice(6, 8), b"\xff\xff"))
    assert broken(folder) == {
        "ids": "1 tokens are no ids of the vocabulary of 49,152, the first is token 3 with id 65535"
    }


def test_masks_that_are_neither_0_nor_1_are_found(tmp_path: Path) -> None:
    """A trainer would weigh them."""
    folder = tmp_path / "out"
    write_tokenized(folder, loss_mask=True)
    rewrite(folder, "data-00000.loss_mask.npy", lambda content: content.__setitem__(-1, 2))
    assert broken(folder) == {"masks": "the loss mask has 1 values that are neither 0 nor 1"}


def test_an_index_that_is_another_is_found(tmp_path: Path) -> None:
    """Megatron would read documents from the wrong places."""
    folder = tmp_path / "out"
    write_tokenized(folder)
    rewrite(folder, "data-00000.idx", lambda content: content.__setitem__(34, content[34] + 1))
    assert list(broken(folder)) == ["index"]


def test_sequences_that_are_no_documents_are_found(tmp_path: Path) -> None:
    """Borders that add up may still be at the wrong places."""
    write_tokenized(tmp_path / "out", file_format="npy")
    rewrite(tmp_path / "out", "data-00000.offsets.npy", lambda content: content.__setitem__(-16, 9))
    assert broken(tmp_path / "out") == {"index": "its sequences are not the documents of the provenance"}
    write_tokenized(tmp_path / "packed" / "out", file_format="npy", pack_length=64)
    rewrite(
        tmp_path / "packed" / "out", "data-00000.segments.npy", lambda content: content.__setitem__(-8, 9)
    )
    assert broken(tmp_path / "packed" / "out") == {"index": "its segments are not those of the provenance"}


@pytest.mark.parametrize(
    ("pack_length", "column", "change"),
    [
        (None, "doc_id", lambda values: [values[0] + 1, *values[1:]]),
        (64, "doc_id", lambda values: [[number + 1 for number in row] for row in values]),
        (64, "seq_lengths", lambda values: [[*row[:-1], row[-1] - 1] for row in values]),
        (64, "seq_lengths", lambda values: [values[0] + values[1][:1], values[1][1:]]),
    ],
)
def test_columns_that_contradict_the_provenance_are_found(
    tmp_path: Path, pack_length: int | None, column: str, change: Callable[[list[Any]], list[Any]]
) -> None:
    """A trainer that resets attention at documents reads them from there."""
    folder = tmp_path / "out"
    texts = {"a.jsonl": ["The cat sat on the mat."] * 12}
    write_tokenized(folder, texts, file_format="arrow", pack_length=pack_length)
    with pa.ipc.open_stream(folder / "data-00000.arrow") as reader:
        table = reader.read_all()
    place = table.schema.get_field_index(column)
    values = pa.array(change(table.column(column).to_pylist()), table.schema.field(column).type)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.set_column(place, table.schema.field(column), values))
    replace_file(folder, "data-00000.arrow", sink.getvalue().to_pybytes())
    (check,) = verified(folder).broken
    assert check.name == "index"
    assert f"its column {column}" in check.findings[0].problem


def test_padding_that_is_none_is_found(tmp_path: Path) -> None:
    """Tokens that come from nowhere are no padding only because nobody knows of them."""
    folder = tmp_path / "out"
    write_tokenized(folder, pack_length=64, loss_mask=True)
    rewrite(folder, "data-00001.bin", lambda content: content.__setitem__(-2, 9))
    assert broken(folder) == {"provenance": "1 tokens of no document are no padding, the first has id 9"}
    rewrite(folder, "data-00001.bin", lambda content: content.__setitem__(-2, 0))
    rewrite(folder, "data-00001.loss_mask.npy", lambda content: content.__setitem__(-1, 1))
    assert broken(folder) == {"provenance": "a trainer would learn padding: its loss mask is not 0"}


def change_provenance(folder: Path, column: str, values: list[int]) -> None:
    """Write other values into the provenance of the second shard."""
    name = "data-00001.provenance.parquet"
    table = pq.read_table(folder / name)
    changed = table.set_column(table.schema.get_field_index(column), table.schema.field(column), [values])
    sink = pa.BufferOutputStream()
    pq.write_table(changed, sink)
    replace_file(folder, name, sink.getvalue().to_pybytes())


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("first_token", [0, 1, 2, 3], "spans overlap"),
        ("first_token", [-1, 18, 22, 23], "before the shard"),
        ("tokens", [14, 5, 1, 1000], "reach up to token"),
        ("doc_id", [3, 4, 5, 99], "documents that the shard does not have, such as 99"),
        ("doc_id", [3, 4, 5, 5], "1 documents have no place"),
        ("start", [0, 1, 2, 10**9], "end in their input before they begin"),
    ],
)
def test_provenance_that_cannot_be_is_found(
    tmp_path: Path, column: str, values: list[int], problem: str
) -> None:
    """Every token comes from one place."""
    folder = tmp_path / "out"
    write_tokenized(folder)
    change_provenance(folder, column, values)
    assert problem in broken(folder)["provenance"]


def test_numbers_of_the_manifest_that_do_not_add_up_are_found(tmp_path: Path) -> None:
    """Totals and inputs are compared with the shards."""
    folder = tmp_path / "out"
    manifest = write_tokenized(folder)
    totals = msgspec.structs.replace(manifest.totals, padding=7)
    inputs = (msgspec.structs.replace(manifest.inputs[0], tokens=1, documents=1), manifest.inputs[1])
    write_manifest(folder, msgspec.structs.replace(manifest, totals=totals, inputs=inputs))
    (check,) = verified(folder).broken
    assert check.name == "totals"
    assert check.broken == 3


def test_documents_without_tokens_hold(tmp_path: Path) -> None:
    """Empty texts are legal where nothing is added to them; so is an output without any document."""
    empty = tmp_path / "empty"
    empty.mkdir()
    write_output(empty, [], ShardSettings("npy", 300, ("a",)))
    assert verified(empty).broken == []
    for pack_length in (None, 8):
        folder = tmp_path / str(pack_length) / "out"
        write_tokenized(folder, {"a.jsonl": ["", "", "a"]}, pack_length=pack_length, eos=False)
        assert verified(folder).broken == []


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    """There is nothing to verify."""
    with pytest.raises(InputError):
        TokenDataset.open(tmp_path)


def test_many_findings_are_counted_and_few_kept() -> None:
    """A folder of a thousand wrong files stays readable."""
    check = Check("files", "claim")
    for number in range(100):
        check.finds(str(number), "wrong")
    assert (check.broken, len(check.findings)) == (100, 20)
    assert all(each.mend for each in check.findings)
