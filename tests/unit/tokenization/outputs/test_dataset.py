"""An output folder, opened again."""

import itertools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokens import Documents, write_output

from asynckit.errors import InputError
from asynckit.tokenization.outputs.dataset import TokenDataset
from asynckit.tokenization.outputs.manifest import write_manifest
from asynckit.tokenization.outputs.shards import ShardSettings

FORMATS = ("megatron", "npy", "parquet", "arrow")
SHARDS: list[list[Documents]] = [
    [[[1, 2, 3], [], [4]], [], [[5, 6], [7, 8, 9, 10, 11]]],
    [[[12]], [[], [13, 14, 15, 16, 17, 18, 19]]],
]
DOCUMENTS = [document for units in SHARDS for unit in units for document in unit]


def settings_of(file_format: str, pack_length: int | None, *, loss_mask: bool = True) -> ShardSettings:
    return ShardSettings(file_format, 1000, ("a.jsonl", "b.jsonl"), pack_length, loss_mask)


def opened(folder: Path, file_format: str, pack_length: int | None) -> TokenDataset:
    write_output(folder, SHARDS, settings_of(file_format, pack_length))
    return TokenDataset.open(folder)


every_format = pytest.mark.parametrize("file_format", FORMATS)
packed_or_not = pytest.mark.parametrize("pack_length", [None, 4])


@every_format
@packed_or_not
def test_every_document_comes_back(tmp_path: Path, file_format: str, pack_length: int | None) -> None:
    """By number, and one after another."""
    dataset = opened(tmp_path, file_format, pack_length)
    assert dataset.document_count == len(DOCUMENTS)
    assert [dataset.document(number).tolist() for number in range(len(DOCUMENTS))] == DOCUMENTS
    with_places = {
        number: document for number, document in enumerate(DOCUMENTS) if document or not pack_length
    }
    assert {number: ids.tolist() for number, ids in dataset.documents()} == with_places


@every_format
@packed_or_not
def test_positions_count_through_all_shards(
    tmp_path: Path, file_format: str, pack_length: int | None
) -> None:
    """Any range of them can be read, and its loss mask."""
    dataset = opened(tmp_path, file_format, pack_length)
    everything = dataset.tokens()
    assert len(everything) == dataset.token_count == dataset.manifest.totals.tokens
    assert everything.dtype == dataset.manifest.dtype
    for start, stop in itertools.combinations(range(len(everything) + 1), 2):
        np.testing.assert_array_equal(dataset.tokens(start, stop), everything[start:stop])
        np.testing.assert_array_equal(dataset.loss_mask(start, stop), everything[start:stop] % 2)


def test_numbers_of_shards_may_be_left_out(tmp_path: Path) -> None:
    """A shard of whose records all were skipped has no files."""
    dataset = opened(tmp_path, "npy", None)
    second = dataset.manifest.shards[1]
    files = tuple(
        msgspec.structs.replace(each, name=each.name.replace("00001", "00005")) for each in second.files
    )
    for before, after in zip(second.files, files, strict=True):
        (tmp_path / before.name).rename(tmp_path / after.name)
    shards = (dataset.manifest.shards[0], msgspec.structs.replace(second, number=5, files=files))
    write_manifest(tmp_path, msgspec.structs.replace(dataset.manifest, shards=shards))
    again = TokenDataset.open(tmp_path)
    assert [again.document(number).tolist() for number in range(len(DOCUMENTS))] == DOCUMENTS
    place = again.locate(again.token_count - 1)
    assert place is not None
    assert place.stretch.shard == 5
    write_manifest(tmp_path, msgspec.structs.replace(dataset.manifest, shards=shards[::-1]))
    with pytest.raises(InputError, match="does not follow"):
        TokenDataset.open(tmp_path)


@every_format
@packed_or_not
def test_a_token_leads_to_its_document_and_input(
    tmp_path: Path, file_format: str, pack_length: int | None
) -> None:
    """Exactly those that no document has are padding."""
    dataset = opened(tmp_path, file_format, pack_length)
    padding = 0
    for position, token in enumerate(dataset.tokens().tolist()):
        place = dataset.locate(position)
        if place is None:
            padding += 1
            assert token == 0
            continue
        assert place.token == position
        assert DOCUMENTS[place.stretch.document][place.offset] == token
        assert place.stretch.end - place.stretch.start == 9
    assert padding == dataset.manifest.totals.padding


def test_a_place_names_the_input_and_its_bytes(tmp_path: Path) -> None:
    """Units of the second shard take turns among the inputs, as those of the first."""
    place = opened(tmp_path, "megatron", 4).locate(24)
    assert place is not None
    assert place._asdict() | place.stretch._asdict() == {
        "token": 24, "stretch": place.stretch, "offset": 4, "document": 7, "source": "b.jsonl",
        "start": 10, "end": 19, "shard": 1, "first": 24, "tokens": 3,
    }  # fmt: skip


@every_format
@packed_or_not
def test_a_shard_gives_its_lengths(tmp_path: Path, file_format: str, pack_length: int | None) -> None:
    """As its own index has them."""
    for shard in opened(tmp_path, file_format, pack_length).shards:
        lengths = shard.lengths()
        assert (len(lengths), lengths.sum()) == (shard.record.sequences, shard.record.tokens)
        assert pack_length is None or set(lengths.tolist()) == {pack_length}


@pytest.mark.parametrize("file_format", ["megatron", "npy", "arrow"])
def test_documents_are_views_of_the_file(tmp_path: Path, file_format: str) -> None:
    """Mapped formats are not copied."""
    dataset = opened(tmp_path, file_format, None)
    assert dataset.document(0).base is not None
    assert not dataset.document(0).flags.writeable
    assert all(ids.base is not None for _, ids in dataset.documents())


@every_format
@packed_or_not
def test_an_output_of_nothing_can_be_opened(
    tmp_path: Path, file_format: str, pack_length: int | None
) -> None:
    """An empty input makes an empty output."""
    write_output(tmp_path, [[[]]], settings_of(file_format, pack_length))
    dataset = TokenDataset.open(tmp_path)
    assert (dataset.token_count, dataset.document_count, list(dataset.documents())) == (0, 0, [])
    assert dataset.tokens().tolist() == []
    assert dataset.shards[0].lengths().tolist() == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda dataset: dataset.tokens(5, 100),
        lambda dataset: dataset.tokens(-1, 2),
        lambda dataset: dataset.locate(19),
        lambda dataset: dataset.document(8),
        lambda dataset: dataset.document(-1),
    ],
)
def test_what_is_not_there_is_an_error_with_the_range(tmp_path: Path, ask: Any) -> None:
    """The mend says how much there is."""
    with pytest.raises(InputError, match=r"there are (19 tokens|8 documents)"):
        ask(opened(tmp_path, "npy", None))


@every_format
def test_an_output_without_loss_mask_has_none(tmp_path: Path, file_format: str) -> None:
    """And says so instead of making one up."""
    write_output(tmp_path, SHARDS, settings_of(file_format, None, loss_mask=False))
    assert TokenDataset.open(tmp_path).loss_mask() is None


@every_format
@packed_or_not
def test_a_missing_or_shortened_file_is_an_error_that_names_it(
    tmp_path: Path, file_format: str, pack_length: int | None
) -> None:
    """Whichever file it is, and however much of it is gone."""
    manifest = write_output(tmp_path, SHARDS, settings_of(file_format, pack_length))
    for file in manifest.shards[0].files:
        path = tmp_path / file.name
        whole = path.read_bytes()
        for content in (None, b"", whole[: len(whole) // 2]):
            path.unlink() if content is None else path.write_bytes(content)
            if path.name.endswith("segments.npy"):
                continue
            with pytest.raises(InputError, match="damaged") as caught:
                read_everything(TokenDataset.open(tmp_path))
            assert caught.value.where == str(path)
            path.write_bytes(whole)
        path.write_bytes(whole)


def test_the_provenance_of_another_output_is_noticed(tmp_path: Path) -> None:
    """It would lead out of the tokens."""
    write_output(tmp_path / "a", SHARDS, settings_of("npy", None))
    write_output(tmp_path / "b", [[[[1], [2]]], *SHARDS[1:]], settings_of("npy", None))
    name = "data-00000.provenance.parquet"
    (tmp_path / "a" / name).rename(tmp_path / "b" / name)
    with pytest.raises(InputError, match="it tells of tokens 0 to 4 of 2"):
        list(TokenDataset.open(tmp_path / "b").documents())


def read_everything(dataset: TokenDataset) -> None:
    """Look into every file."""
    for shard in dataset.shards:
        shard.lengths()
    dataset.loss_mask()
    dataset.tokens()
    list(dataset.documents())


documents = st.lists(st.lists(st.integers(1, 999), max_size=9), max_size=6)


@settings(deadline=None, max_examples=50)  # it writes and syncs files
@given(
    shards=st.lists(st.lists(documents, min_size=1, max_size=3), max_size=3),
    file_format=st.sampled_from(FORMATS),
    pack_length=st.sampled_from([None, 2, 5]),
)
def test_any_documents_come_back(
    shards: list[list[Documents]],
    file_format: str,
    pack_length: int | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """However they are divided into units and shards."""
    folder = tmp_path_factory.mktemp("output")
    write_output(folder, shards, settings_of(file_format, pack_length))
    dataset = TokenDataset.open(folder)
    expected = [list(document) for units in shards for unit in units for document in unit]
    assert [dataset.document(number).tolist() for number in range(dataset.document_count)] == expected
    located = [place for place in map(dataset.locate, range(dataset.token_count)) if place]
    found = [(place.stretch.document, place.offset) for place in located]
    assert sorted(found) == [
        (number, offset) for number, document in enumerate(expected) for offset in range(len(document))
    ]
