"""Lengths are counted exactly, and every document is in one bin."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asynckit.tokenization.afterwards.lengths import PERCENTILES, summarize

lengths = st.lists(st.integers(0, 100) | st.integers(0, 20_000_000), min_size=1, max_size=200)


@given(lengths=lengths)
def test_bins_are_without_gaps_and_hold_every_document(lengths: list[int]) -> None:
    """Whatever the lengths are, empty documents included."""
    bins = summarize(Counter(lengths)).bins
    assert [each.high + 1 for each in bins[:-1]] == [each.low for each in bins[1:]]
    assert [each.documents for each in bins] == [
        sum(each.low <= length <= each.high for length in lengths) for each in bins
    ]
    assert sum(each.documents for each in bins) == len(lengths)
    assert len(bins) <= 52


@given(lengths=lengths)
def test_percentiles_are_those_of_the_lengths_themselves(lengths: list[int]) -> None:
    """They are lengths that documents have, as numpy takes them from the sorted list."""
    summary = summarize(Counter(lengths))
    taken = np.percentile(lengths, PERCENTILES, method="inverted_cdf").tolist()
    assert list(summary.percentiles.values()) == taken
    assert summary.mean == np.mean(np.array(lengths, dtype=np.float64))
    assert (summary.shortest, summary.longest) == (min(lengths), max(lengths))


def test_no_documents_are_no_bins() -> None:
    """An empty input is a legal one."""
    assert summarize({}).bins == []
