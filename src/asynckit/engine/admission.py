"""What an engine refuses before it queues anything: requests that could never be served."""

from collections.abc import Container

from asynckit.bounds import violations
from asynckit.engine.request import Request, Sequence
from asynckit.engine.scheduler import Scheduler
from asynckit.errors import RequestError


def check_request(
    request: Request, *, running: Container[str], vocabulary: int, scheduler: Scheduler
) -> None:
    """Check that a request can be served.

    Args:
        request: what was asked.
        running: ids of the requests that have not ended.
        vocabulary: token ids are below this.
        scheduler: knows the longest sequence and the size of the cache.

    Raises:
        RequestError: it can't, and why.
    """
    where = f"request {request.id!r}"
    if request.id in running:
        raise RequestError("a request with this id is already running", where=where)
    if request.n < 1:
        raise RequestError(f"n must be at least 1, not {request.n}", where=where)
    for name, problem in violations(request.sampling):
        raise RequestError(f"{name} {problem}", where=where)
    if "" in request.sampling.stop:
        raise RequestError("a stop string must not be empty", where=where)
    _check_prompt(request, vocabulary, scheduler.max_model_len, where)
    _check_cache(request, scheduler, where)


def _check_prompt(request: Request, vocabulary: int, longest: int, where: str) -> None:
    if not request.prompt_ids:
        raise RequestError("the prompt is empty", where=where, mend="give at least one token")
    wrong = next((t for t in request.prompt_ids if not 0 <= t < vocabulary), None)
    if wrong is not None:
        raise RequestError(f"token id {wrong} is outside the vocabulary of {vocabulary}", where=where)
    if len(request.prompt_ids) >= longest:
        raise RequestError(
            f"the prompt has {len(request.prompt_ids)} tokens and leaves no room for a response: "
            f"together they may have {longest}",
            where=where,
            mend="shorten the prompt or raise engine.max_model_len",
        )


def _check_cache(request: Request, scheduler: Scheduler, where: str) -> None:
    need, pool = scheduler.blocks_needed(Sequence(request, 0, [])), scheduler.pool
    if need > pool.size:
        raise RequestError(
            f"the request needs {need * pool.block_size} tokens of KV cache, "
            f"which holds {pool.size * pool.block_size}",
            where=where,
            mend="lower sampling.max_tokens or raise engine.kv_cache_tokens",
        )
