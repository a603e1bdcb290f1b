"""Whether a request that is right in itself fits an engine of this size."""

from asynckit.engine.request import Request, Sequence
from asynckit.engine.scheduler import Scheduler
from asynckit.errors import NoRoom


def check_room(request: Request, scheduler: Scheduler) -> None:
    """Refuse a request that could never run, whatever else ends.

    Raises:
        NoRoom: its prompt leaves no room for a response, or the cache can't hold one of its samples.
    """
    where = f"request {request.id!r}"
    longest, pool = scheduler.max_model_len, scheduler.pool
    if len(request.prompt_ids) >= longest:
        raise NoRoom(
            f"the prompt has {len(request.prompt_ids)} tokens and leaves no room for a response: "
            f"together they may have {longest}",
            where=where,
            mend="shorten the prompt or raise engine.max_model_len",
        )
    need = scheduler.blocks_needed(Sequence(request, 0, []))
    if need > pool.size:
        raise NoRoom(
            f"the request needs {need * pool.block_size} tokens of KV cache, "
            f"which holds {pool.size * pool.block_size}",
            where=where,
            mend="lower sampling.max_tokens or raise engine.kv_cache_tokens",
        )


def check_length(request: Request, longest: int) -> None:
    """Refuse a prompt that is to be read only and has more than ``longest`` tokens.

    Raises:
        NoRoom: it has.
    """
    if len(request.prompt_ids) > longest:
        raise NoRoom(
            f"the prompt has {len(request.prompt_ids)} tokens, and {longest} can be read",
            where=f"request {request.id!r}",
            mend="shorten it",
        )
