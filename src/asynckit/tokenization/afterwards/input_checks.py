"""Whether the inputs still are what was read, and whether the reference makes the same tokens of them."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from asynckit.errors import AsynckitError
from asynckit.tokenization.afterwards.findings import Check, Verification
from asynckit.tokenization.afterwards.rereading import InputAgain, can_be_read_again, config_of
from asynckit.tokenization.afterwards.vocabulary import Vocabulary
from asynckit.tokenization.encoding.gate import bound
from asynckit.tokenization.encoding.reference import Reference
from asynckit.tokenization.inputs.names import ROW_FORMATS
from asynckit.tokenization.inputs.places import place_of
from asynckit.tokenization.layouts.layout import Layout, layout_for
from asynckit.tokenization.outputs.dataset import TokenDataset
from asynckit.tokenization.records import LaidOut, Records, Source

_CHANGED = "restore the input, or tokenize again with --overwrite"
_DIFFERS = "if the input has not changed, tokenize again with --encoder tokenizers, and report the text"
_Numbers = NDArray[np.int64]


def check_inputs(
    dataset: TokenDataset,
    vocabulary: Vocabulary,
    share: float,
    verification: Verification,
    progress: Callable[[int], None],
) -> None:
    """Read all inputs again; a share of the documents is encoded and compared, unless shards are damaged.

    Args:
        dataset: the folder.
        vocabulary: that made it.
        share: of the documents that are encoded again; 0 for none.
        verification: of the shards; the checks of inputs and reference get what is found.
        progress: is told how many records are done.

    Raises:
        InputError: the manifest is of another version.
    """
    inputs, reference = verification.check("inputs"), verification.check("reference")
    if share and verification.broken:
        reference.skip("nothing: the shards are damaged")
        share = 0.0
    config = config_of(dataset.manifest)
    layout = layout_for(config, vocabulary.tokenizer, Reference(vocabulary.parts).encode)
    comparison = _Comparison(dataset, layout, share, reference)
    read = seen = 0
    for number, record in enumerate(dataset.manifest.inputs):
        if not can_be_read_again(record):
            continue
        read += 1
        try:
            again = InputAgain(record, number, layout.fields, config)
            places = _Places(dataset, record.name)
            for records in again:
                comparison.compare(number, again.source, records, places)
                seen += len(records.starts)
                progress(seen)
        except AsynckitError as error:
            inputs.finds(error.where or record.name, error.message, error.mend or _CHANGED)
            continue
        if again.digest != record.digest:
            inputs.finds(record.name, "it is not what it was: its digest is another", _CHANGED)
    if read:
        inputs.cover(f"{read:,} of {len(dataset.manifest.inputs):,} inputs, {seen:,} records")
    else:
        inputs.skip("nothing: standard input cannot be read again")
    if comparison.documents:
        reference.cover(comparison.covers())
    elif share:
        reference.skip("nothing: no document was drawn, or standard input cannot be read again")


class _Comparison:
    """Compares some of the records with the folder."""

    def __init__(self, dataset: TokenDataset, layout: Layout, share: float, check: Check) -> None:
        self.documents = 0
        self._dataset = dataset
        self._layout = layout
        self._share = share
        self._check = check

    def compare(self, number: int, source: Source, records: Records, places: "_Places") -> None:
        """Encode what is drawn of a batch, and compare it with the documents that were written.

        Args:
            number: of the input.
            source: the input.
            records: that follow those of the call before.
            places: of the input's documents.
        """
        drawn = np.flatnonzero(_drawn(number, records.starts, self._share))
        if not len(drawn):
            return
        laid = self._layout.lay_out(tuple([column[at] for at in drawn] for column in records.columns))
        rows = dict(zip(laid.kept.tolist(), range(len(laid.kept)), strict=True))
        for index, start in enumerate(records.starts[drawn].tolist()):
            document = places.document(start)
            problem = self._problem(document, laid, rows.get(index))
            if problem:
                mend = _CHANGED if document is None else _DIFFERS
                self._check.finds(_where(source, start), problem, mend)

    def covers(self) -> str:
        """What was compared, and what follows from it."""
        compared = f"{self.documents:,} of {self._dataset.document_count:,} documents"
        if self._check.broken or self.documents == self._dataset.document_count:
            return compared
        return f"{compared}; with 95 % confidence at most {bound(self.documents):.2g} of all differ"

    def _problem(self, document: int | None, laid: LaidOut, row: int | None) -> str:
        """What is wrong with a record: its document, and its row among those that were laid out."""
        if document is None:
            nothing = row is None or not len(laid.tokens.row(row))  # packing has no place for no tokens
            return "" if nothing else "it is no document of the folder"
        self.documents += 1
        if row is None:
            return f"document {document:,}: it should have been refused"
        return self._difference(document, laid, row)

    def _difference(self, document: int, laid: LaidOut, row: int) -> str:
        """How a document differs from what the reference makes of it; empty where it doesn't."""
        written, expected = self._dataset.document(document), laid.tokens.row(row)
        if not np.array_equal(written, expected):
            return f"document {document:,}: {_first_difference(written, expected)}"
        if laid.loss_mask is None:
            return ""
        begin, end = laid.tokens.offsets[row : row + 2]
        stretches = self._dataset.stretches(document)
        masks = [self._dataset.loss_mask(each.first, each.first + each.tokens) for each in stretches]
        mask = np.concatenate([np.empty(0, np.uint8), *(each for each in masks if each is not None)])
        same = np.array_equal(mask, laid.loss_mask[begin:end])
        return "" if same else f"document {document:,}: its loss mask is another"


class _Places:
    """Finds documents of an input by where they begin; asked in the order of the input."""

    def __init__(self, dataset: TokenDataset, source: str) -> None:
        self._groups = _documents_of(dataset, source)
        self._starts: _Numbers = np.empty(0, np.int64)
        self._documents: _Numbers = np.empty(0, np.int64)

    def document(self, start: int) -> int | None:
        """The number of the document that begins there; None where there is none."""
        while not len(self._starts) or self._starts[-1] < start:
            following = next(self._groups, None)
            if following is None:
                return None
            self._starts, self._documents = following
        place = int(np.searchsorted(self._starts, start))
        return int(self._documents[place]) if self._starts[place] == start else None


def _documents_of(dataset: TokenDataset, source: str) -> Iterator[tuple[_Numbers, _Numbers]]:
    """Where the documents of an input begin, and their numbers: a unit at a time, both ascending."""
    for shard in dataset.shards:
        for stretches in shard.provenance.groups():
            documents, rows = np.unique(stretches.documents, return_index=True)
            its = np.array([name == source for name in stretches.sources])[stretches.source_indices[rows]]
            if its.any():
                yield stretches.starts[rows][its], documents[its]


def _where(source: Source, start: int) -> str:
    place = place_of(source, start)
    return place if source.format in ROW_FORMATS else f"{place}, byte {start}"


def _drawn(number: int, starts: _Numbers, share: float) -> NDArray[np.bool_]:
    """Which records of an input are compared: by a hash of where they begin (SplitMix64's finalizer)."""
    with np.errstate(over="ignore"):
        mixed = (starts.astype(np.uint64) + np.uint64((number + 1) << 40)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53 < share


def _first_difference(written: NDArray[np.integer], expected: NDArray[np.integer]) -> str:
    both = min(len(written), len(expected))
    places = np.flatnonzero(written[:both] != expected[:both])
    if len(places):
        at = int(places[0])
        return f"token {at:,} is {int(written[at])}, the reference's is {int(expected[at])}"
    return f"it has {len(written):,} tokens, the reference makes {len(expected):,}"
