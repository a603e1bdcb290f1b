"""``python -m asynckit.serve.process``: one process of the server, told on its standard input which one."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import zmq

from asynckit import console
from asynckit.errors import AsynckitError
from asynckit.models.light_tokenizer import keep_torch_out
from asynckit.parent import die_with_parent
from asynckit.serve.assignment import Assignment
from asynckit.serve.control_messages import Failed
from asynckit.serve.messages import encode
from asynckit.serve.sockets import configure

_logger = logging.getLogger(__name__)


def main() -> int:
    """Do what the assignment says until the supervisor ends it; returns the exit code."""
    assignment = msgspec.json.decode(sys.stdin.buffer.read(), type=Assignment)
    die_with_parent(assignment.supervisor)
    console.set_up(verbose=assignment.verbose)
    console.never_wait()
    if assignment.kind in ("http", "detokenizer"):
        keep_torch_out(assignment.model)
    for ending in (signal.SIGINT, signal.SIGTERM):  # meant for the supervisor, which knows the order
        signal.signal(ending, signal.SIG_IGN)
    try:
        return _run(assignment)
    except AsynckitError as error:
        _report(assignment, error)
        return error.exit_code
    except BaseExceptionGroup as group:
        known = next((e for e in leaves(group) if isinstance(e, AsynckitError)), None)
        if known is None:
            raise
        _report(assignment, known)
        return known.exit_code


def _run(assignment: Assignment) -> int:
    if assignment.kind == "worker":
        from asynckit.serve.model_worker import run_worker

        return run_worker(assignment)
    return asyncio.run(_chosen(assignment.kind)(assignment))


def _chosen(kind: str) -> Callable[[Assignment], Coroutine[Any, Any, int]]:
    if kind == "router":
        from asynckit.serve.router import run_router as run
    elif kind == "detokenizer":
        from asynckit.serve.detokenizer import run_detokenizer as run
    else:
        from asynckit.serve.http_server import run_http as run
    return run


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors in a group and in the groups in it."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _report(assignment: Assignment, error: AsynckitError) -> None:
    """Tell the supervisor what the person should read."""
    failed = Failed(
        assignment.name,
        assignment.generation,
        type(error).__name__,
        error.message,
        error.where,
        error.mend,
    )
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        configure(socket, assignment.place, server=False)
        socket.linger = 1000
        socket.connect(assignment.control)
        socket.send(encode(failed))


if __name__ == "__main__":
    sys.exit(main())
