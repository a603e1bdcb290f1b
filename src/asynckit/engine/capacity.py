"""What an engine can hold."""

from dataclasses import dataclass

from asynckit.engine.scheduler import Scheduler


@dataclass(frozen=True)
class Capacity:
    """Known once it is loaded.

    Attributes:
        max_model_len: tokens of a prompt and its response.
        vocabulary: token ids are below this.
        kv_cache_tokens: of all samples that run.
        max_running: samples in one step.
    """

    max_model_len: int
    vocabulary: int
    kv_cache_tokens: int
    max_running: int


def capacity(scheduler: Scheduler, vocabulary: int) -> Capacity:
    """What an engine with this scheduler holds."""
    pool = scheduler.pool
    return Capacity(scheduler.max_model_len, vocabulary, pool.size * pool.block_size, scheduler.max_running)
