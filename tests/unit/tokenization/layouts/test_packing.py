"""Packing loses no token, invents none, and says where each came from."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from asynckit.tokenization.arrays import Ragged, offsets_of
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.layouts.first_fit import first_fit_decreasing
from asynckit.tokenization.layouts.packing import pack
from asynckit.tokenization.records import LaidOut, Sequences

PADDING = 7
LENGTHS = st.lists(st.one_of(st.integers(0, 6), st.integers(0, 70)), max_size=60)


def batch(lengths: Sequence[int], *, from_token: int = 100, masked: bool = False) -> LaidOut:
    offsets = offsets_of(np.array(lengths, dtype=np.int64))
    tokens = np.arange(offsets[-1], dtype=np.uint32) + from_token
    mask = (tokens % 2).astype(np.uint8) if masked else None
    return LaidOut(Ragged(tokens, offsets), mask, np.arange(len(lengths)), [])


def packed(batches: list[LaidOut], **settings: object) -> Sequences:
    documents = sum(len(one.kept) for one in batches)
    config = TokenizationConfig(**settings)  # type: ignore[arg-type]  # whatever a test sets
    return pack(batches, np.arange(documents), np.arange(documents) + 1, config, PADDING)


def documents_in(result: Sequences, count: int) -> list[list[int]]:
    """The documents' tokens, put together from the spans in their order."""
    documents: list[list[int]] = [[] for _ in range(count)]
    spans = zip(result.span_documents, result.span_firsts, result.span_tokens, strict=True)
    for document, first, tokens in spans:
        documents[document] += result.tokens[first : first + tokens].tolist()
    return documents


def covered(result: Sequences) -> NDArray[np.int64]:
    """How many spans cover each token."""
    times = np.zeros(len(result.tokens) + 1, dtype=np.int64)
    np.add.at(times, result.span_firsts, 1)
    np.add.at(times, result.span_firsts + result.span_tokens, -1)
    return np.cumsum(times)[:-1]


def slow_first_fit(sizes: Sequence[int], capacity: int) -> list[int]:
    """As textbooks have it."""
    room: list[int] = []
    bins = [0] * len(sizes)
    for item in sorted(range(len(sizes)), key=lambda item: -sizes[item]):
        fitting = [index for index, left in enumerate(room) if left >= sizes[item]]
        if not fitting:
            room.append(capacity)
            fitting = [len(room) - 1]
        room[fitting[0]] -= sizes[item]
        bins[item] = fitting[0]
    return bins


@given(
    st.integers(1, 40).flatmap(lambda top: st.lists(st.integers(1, top), max_size=120)), st.integers(40, 90)
)
def test_bins_are_those_of_the_textbook(sizes: list[int], capacity: int) -> None:
    """Many items of one size are placed at once, with the same result."""
    found = first_fit_decreasing(np.array(sizes, dtype=np.int64), capacity)
    assert found.tolist() == slow_first_fit(sizes, capacity)


@given(LENGTHS, LENGTHS, st.integers(2, 40), st.sampled_from(["first_fit", "concatenate"]), st.booleans())
def test_every_token_is_there_once_and_the_rest_is_padding(
    one: list[int], two: list[int], pack_length: int, packing: str, masked: bool
) -> None:
    """Whatever the lengths, and however they came in batches."""
    batches = [batch(one, masked=masked), batch(two, from_token=100 + sum(one), masked=masked)]
    result = packed(batches, pack_length=pack_length, packing=packing)
    whole = batch(one + two)
    expected = [whole.tokens.row(index).tolist() for index in range(len(one + two))]
    assert documents_in(result, len(expected)) == expected
    times = covered(result)
    assert set(times.tolist()) <= {0, 1}
    assert (result.tokens[times == 0] == PADDING).all()
    assert result.lengths.tolist() == [pack_length] * (len(result.tokens) // pack_length)
    wanted = np.where(times == 1, result.tokens % 2 if masked else 1, 0)
    assert result.loss_mask is not None
    assert result.loss_mask.tolist() == wanted.tolist()


@given(LENGTHS, st.integers(2, 40), st.sampled_from(["first_fit", "concatenate"]))
def test_spans_are_in_order_and_within_one_sequence(
    lengths: list[int], pack_length: int, packing: str
) -> None:
    """So that a token's place is found by a search, and its offset in the document by a sum."""
    result = packed([batch(lengths)], pack_length=pack_length, packing=packing)
    ends = result.span_firsts + result.span_tokens
    assert all(end <= first for end, first in zip(ends, result.span_firsts[1:], strict=False))
    assert (result.span_firsts // pack_length == (ends - 1) // pack_length).all()
    assert result.span_documents.dtype == result.span_firsts.dtype == result.span_tokens.dtype == np.int64


@given(LENGTHS, st.integers(2, 40))
def test_first_fit_cuts_only_what_is_too_long(lengths: list[int], pack_length: int) -> None:
    """And that only where it must be cut."""
    result = packed([batch(lengths)], pack_length=pack_length)
    pieces = np.bincount(result.span_documents, minlength=len(lengths)).tolist()
    assert pieces == [-(-length // pack_length) for length in lengths]


@given(LENGTHS, st.integers(2, 40))
def test_first_fit_keeps_the_order_of_beginnings(lengths: list[int], pack_length: int) -> None:
    """Long documents don't gather at a unit's beginning: a curriculum that nobody asked for."""
    short = [length % pack_length for length in lengths]
    result = packed([batch(short)], pack_length=pack_length)
    sequences = result.span_firsts // pack_length
    leaders = [int(result.span_documents[sequences == index].min()) for index in np.unique(sequences)]
    assert leaders == sorted(leaders)


def test_one_after_another_leaves_only_the_end_unfilled() -> None:
    """Cut at the length, wherever that is in a document."""
    result = packed([batch([3, 0, 4, 2])], pack_length=4, packing="concatenate")
    assert result.tokens.tolist() == [*range(100, 109), PADDING, PADDING, PADDING]
    assert result.span_documents.tolist() == [0, 2, 2, 3, 3]
    assert result.span_firsts.tolist() == [0, 3, 4, 7, 8]


@pytest.mark.parametrize("masked", [False, True])
def test_unpacked_documents_are_their_own_sequences(masked: bool) -> None:
    """Also those without a token."""
    result = packed([batch([2, 0, 3], masked=masked), batch([1], from_token=105, masked=masked)])
    assert result.tokens.tolist() == [*range(100, 106)]
    assert result.lengths.tolist() == result.span_tokens.tolist() == [2, 0, 3, 1]
    assert result.span_documents.tolist() == [0, 1, 2, 3]
    assert result.span_firsts.tolist() == [0, 2, 2, 5]
    assert (result.loss_mask is not None) == masked


@pytest.mark.parametrize("settings", [{}, {"pack_length": 8}, {"pack_length": 8, "packing": "concatenate"}])
def test_no_documents_are_no_sequences(settings: dict[str, object]) -> None:
    """A unit in which every record was broken, or in which none begins."""
    for batches in ([], [batch([])]):
        result = packed(batches, **settings)
        assert len(result.tokens) == len(result.lengths) == len(result.span_documents) == 0
        assert result.tokens.dtype == np.uint32


def test_chats_always_have_a_mask() -> None:
    """Also where a unit has none: all parts of a shard are written alike."""
    for batches in ([], [batch([2], masked=True)]):
        assert packed(batches, mode="chat").loss_mask is not None


def test_many_short_documents_are_packed_tightly() -> None:
    """Whole documents can fill all but a little of each sequence."""
    lengths = np.random.default_rng(0).integers(1, 400, 5000).tolist()
    result = packed([batch(lengths)], pack_length=2048)
    assert sum(lengths) / len(result.tokens) > 0.995
    assert all(first < second for first, second in pairwise(result.span_firsts))
