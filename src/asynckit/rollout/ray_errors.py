"""Answers of Ray's actors, awaited, and the errors behind them."""

import asyncio
from typing import Any

from ray.exceptions import RayActorError, RayTaskError

from asynckit.errors import AsynckitError, WorkFailed


def as_future(answer: Any) -> asyncio.Future[Any]:
    """An object reference as something that asyncio can wait for."""
    return asyncio.ensure_future(_await(answer))


async def _await(answer: Any) -> Any:
    return await answer


def first_cause(error: Exception) -> Exception:
    """The error that a person can act on, unwrapped from TaskGroup's and Ray's layers."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, RayTaskError) and isinstance(error.cause, AsynckitError):
        return error.cause
    if isinstance(error, RayActorError):
        # Ray's own text spans many lines, with colours.
        return WorkFailed(
            "a part of the run died (a rollouter, the message queue, the learner or a reward worker)",
            mend="see the run's logs folder and Ray's own logs; finished groups are on disk",
        )
    return error
