"""What a scheduler says of itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Statistics:
    """A snapshot.

    Attributes:
        running, waiting: sequences in either state.
        kv_usage: share of KV blocks that sequences hold.
        prefilled_tokens: tokens computed so far that were not decoded one by one.
        prefix_query_tokens: tokens of all sequences that started; those that joined a sibling don't count.
        prefix_hit_tokens: how many of them were found in the cache.
        preemptions: how often a sequence lost its blocks to another.
        step_tokens: tokens of the last step.
        steps: forward passes so far.
    """

    running: int
    waiting: int
    kv_usage: float
    prefilled_tokens: int
    prefix_query_tokens: int = 0
    prefix_hit_tokens: int = 0
    preemptions: int = 0
    step_tokens: int = 0
    steps: int = 0
