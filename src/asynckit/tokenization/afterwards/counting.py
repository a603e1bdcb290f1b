"""Going through all shards of a folder for their statistics, a unit's documents at a time."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from asynckit.errors import InputError
from asynckit.tokenization.afterwards.shard_checks import id_problems, span_problems
from asynckit.tokenization.afterwards.statistics import Spans, Spelling, Tally
from asynckit.tokenization.outputs.dataset import TokenDataset
from asynckit.tokenization.outputs.provenance import Stretches
from asynckit.tokenization.outputs.stored_shards import DAMAGED_MEND, StoredShard


def count(dataset: TokenDataset, spelling: Spelling, progress: Callable[[int], None]) -> Tally:
    """Count all tokens of a folder.

    Args:
        dataset: the folder.
        spelling: of all ids.
        progress: is told how many tokens are done.

    Raises:
        InputError: a file is missing or damaged.
    """
    sources = source_numbers(dataset)
    tally = Tally.empty(len(spelling.bytes), len(sources))
    for shard in dataset.shards:
        for stretches in shard.provenance.groups():
            _add(tally, shard, spans_of(stretches, sources), spelling)
        progress(shard.record.first_token + shard.record.tokens)
    return tally


def source_numbers(dataset: TokenDataset) -> dict[str, int]:
    """The manifest's inputs by name."""
    return {each.name: number for number, each in enumerate(dataset.manifest.inputs)}


def spans_of(stretches: Stretches, sources: Mapping[str, int]) -> Spans:
    """Rows of the provenance with the manifest's numbers of inputs; -1 for one that it does not have."""
    numbers = np.array([sources.get(name, -1) for name in stretches.sources], np.int64)
    return Spans(stretches.documents, numbers[stretches.source_indices], stretches.firsts, stretches.tokens)


def _add(tally: Tally, shard: StoredShard, spans: Spans, spelling: Spelling) -> None:
    if not len(spans.firsts):
        return
    record, ids = shard.record, len(spelling.bytes)
    documents = range(record.first_document, record.first_document + record.documents)
    _require(shard, span_problems(spans, record.tokens, documents, len(tally.source_tokens)))
    begin, end = int(spans.firsts[0]), int(spans.firsts[-1] + spans.tokens[-1])
    tokens = shard.tokens.read(begin, end)
    _require(shard, id_problems(tokens, ids))
    mask = None if shard.loss_mask is None else shard.loss_mask.read(begin, end)
    tally.add(tokens, mask, spans.moved(-begin), spelling)


def _require(shard: StoredShard, problems: Iterator[str]) -> None:
    problem = next(problems, None)
    if problem is not None:
        raise InputError(problem, where=str(shard.path("")), mend=DAMAGED_MEND)
