"""One rank of a replica: a process that owns an engine and does what the router says, step by step.

The main thread computes: it waits for a message, answers it, and waits again, so an idle worker costs
nothing. A thread beside it keeps the tie to the supervisor and reports how long the present step has taken.
"""

import logging

import msgspec
import zmq

from asynckit.engine.protocol import InferenceEngine
from asynckit.nvtx import Ranges, ranges
from asynckit.serve.adapters import given_adapters, register_all
from asynckit.serve.assignment import Assignment
from asynckit.serve.control_messages import Facts
from asynckit.serve.engine_steps import EngineSteps
from asynckit.serve.engines import load_engine
from asynckit.serve.membership import Membership
from asynckit.serve.messages import MOST_FRAME_BYTES, Stepped, ToWorker, decoder, encode
from asynckit.serve.sockets import bind, ring_only

MOST_ANSWER_BYTES = MOST_FRAME_BYTES // 2  # the router passes its tokens on with a little more

_logger = logging.getLogger(__name__)


def run_worker(assignment: Assignment) -> int:
    """Be a model worker until the supervisor says stop; returns the exit code.

    Raises:
        AsynckitError: the engine can't be loaded.
    """
    with Membership(assignment) as membership:
        serve = assignment.serve
        given = given_adapters(serve, assignment.engine, str(serve.name))
        engine = load_engine(assignment)
        register_all(engine.adapters, given)
        adapters = {adapter.name: adapter.folder for adapter in given}
        ranges = _ranges(assignment)
        steps = EngineSteps(engine, adapters, lora=serve.lora, alone=serve.tp == 1, ranges=ranges)
        with (
            zmq.Context() as context,
            ring_only(context, assignment.place),
            context.socket(zmq.ROUTER) as calls,
        ):
            address = bind(calls, assignment.place, assignment.unique_name)
            membership.ready(address, _facts(engine))
            _answer_calls(calls, membership, steps)
        engine.close()
    return 0


def _answer_calls(calls: "zmq.Socket[bytes]", membership: Membership, steps: EngineSteps) -> None:
    """Answer whoever calls: the router, and after its end the next one."""
    decode = decoder(ToWorker).decode
    poller = zmq.Poller()
    poller.register(calls, zmq.POLLIN)
    poller.register(membership.fileno(), zmq.POLLIN)
    while membership.fileno() not in (ready := dict(poller.poll())):
        assert calls in ready
        caller, *frames = calls.recv_multipart()
        try:
            message: ToWorker = decode(b"".join(frames))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _logger.warning("dropped a frame: %s", error)
            continue
        membership.begin()
        answer = steps.answer(message)
        frame = encode(answer)
        if len(frame) > MOST_ANSWER_BYTES and isinstance(answer, Stepped):
            frame = encode(steps.lighten(answer, len(frame) - MOST_ANSWER_BYTES))
        membership.end()
        calls.send_multipart([caller, frame])


def _facts(engine: InferenceEngine) -> Facts:
    """What HTTP servers and the router need to know of a loaded engine."""
    holds = engine.capacity
    return Facts(
        max_model_len=holds.max_model_len,
        vocabulary=holds.vocabulary,
        kv_cache_tokens=holds.kv_cache_tokens,
        max_running=holds.max_running,
        embeds=engine.embeds,
    )


def _ranges(assignment: Assignment) -> Ranges:
    """Names what goes on in CUDA profiles, if that is asked for and there is CUDA."""
    return ranges(wanted=assignment.serve.nvtx and assignment.serve.engine != "simulated")
