"""What the processes of the ring say to each other, one tagged union per direction.

What they and the supervisor say is in :mod:`asynckit.serve.control_messages`.

::

    HTTP server ── ToRouter ──> router ── ToDetokenizer ──> detokenizer ── ToHttp ──> HTTP server
                                router ── ToWorker ──> model worker ── FromWorker ──> router

Frames are msgpack, and decoding checks every type: a frame that is no member of its union raises
``msgspec.ValidationError`` or ``msgspec.DecodeError`` and nothing else. Times are seconds on the machine's
monotonic clock, which its processes share.

A request ends exactly once, for whoever sent it: by the :class:`Text` that carries the ``finish`` of its last
sample, or by :class:`Refused`. A call (:data:`Call`) ends by :class:`Answered` or :class:`Refused`.
"""

from typing import Any

import msgspec

from asynckit.engine.request import Likeliest, Request

MOST_FRAME_BYTES = 64 * 2**20
"""Sockets drop what is larger, unseen."""


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A member of a union: its name comes first in the frame."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A part of a message."""


# HTTP server -> router


class Generate(Message, frozen=True):
    """A request for samples.

    Attributes:
        request: for the engine; its id is unique over all HTTP servers and for all time.
        home: unique name of the HTTP server process, to which the answer goes.
        owner: whose request it is, for fairness: a label of the API key, never the key.
        arrived: when its first byte was read.
        timeout: seconds from its arrival after which it ends with an error.
        skip_special_tokens: whether special tokens are left out of the text.
        wants_tokens: whether text pieces come with their tokens, for logprobs.
    """

    request: Request
    home: str
    owner: str
    arrived: float
    timeout: float
    skip_special_tokens: bool = True
    wants_tokens: bool = False


class Abort(Message, frozen=True):
    """Nobody waits for this request any more; ids that are unknown or ended do nothing."""

    id: str


class LoadAdapter(Message, frozen=True):
    """Let requests use the LoRA adapter in a folder under a name."""

    id: str
    home: str
    name: str
    folder: str


class UnloadAdapter(Message, frozen=True):
    """Refuse new requests for an adapter."""

    id: str
    home: str
    name: str


class UpdateWeights(Message, frozen=True):
    """Sample with other weights from the next step on; see ``Engine.update_weights``."""

    id: str
    home: str
    version: int
    folder: str
    on_update: str = "keep_kv"


class Embed(Message, frozen=True):
    """Turn each of several prompts into a vector."""

    id: str
    home: str
    prompts_ids: tuple[tuple[int, ...], ...]
    arrived: float
    timeout: float


class GetState(Message, frozen=True):
    """Report a :class:`State`; it passes through the whole ring, so it also shows that the ring is alive."""

    id: str
    home: str


class GetMetrics(Message, frozen=True):
    """Report all metrics as Prometheus text."""

    id: str
    home: str


class Served(Message, frozen=True):
    """An HTTP request has been answered; for the metrics."""

    route: str
    status: int
    seconds: float


EngineCall = LoadAdapter | UnloadAdapter | UpdateWeights | Embed
Vectors = tuple[tuple[float, ...], ...]
Call = LoadAdapter | UnloadAdapter | UpdateWeights | Embed | GetState | GetMetrics
ToRouter = Generate | Abort | Call | Served


# Router -> detokenizer


class Token(Part, frozen=True):
    """One :class:`asynckit.engine.request.TokenEvent`, without what the receiver knows already."""

    id: str
    sample: int
    token_id: int | None
    logprob: float
    version: int
    finish: str | None = None
    error: str = ""
    top_logprobs: Likeliest = ()
    prompt_logprobs: tuple[tuple[int, float, Likeliest] | None, ...] = ()


class Timing(Part, frozen=True):
    """When a request arrived, started to run, got its first token, and ended; and what reading it took.

    ``detokenized`` counts the seconds that its text took in the detokenizer.
    """

    arrived: float
    started: float
    first_token: float
    ended: float
    replica: int = 0
    detokenized: float = 0.0


class Begin(Message, frozen=True):
    """Tokens of this request will follow; ``router`` is the generation of the router that sends them."""

    id: str
    home: str
    n: int
    stop: tuple[str, ...]
    skip_special_tokens: bool
    wants_tokens: bool
    router: int = 0


class Tokens(Message, frozen=True):
    """What one step sampled, for many requests; ``timings`` has those that ended with it, by id."""

    tokens: tuple[Token, ...]
    timings: dict[str, Timing] = {}


class Refused(Message, frozen=True):
    """A request or call ends with this error, whatever came of it so far.

    Attributes:
        status: what HTTP calls it: 400, 404, 413, 429, 500, 503 or 504.
        message: one line for the person.
        code: for programs, such as ``queue_full``.
        retry_after: seconds after which it may be tried again.
        param: name of the field that is wrong, if one is.
    """

    id: str
    home: str
    status: int
    message: str
    code: str = ""
    retry_after: float | None = None
    param: str | None = None


class Adapter(Part, frozen=True):
    """An adapter that requests can name."""

    name: str
    folder: str


class State(Part, frozen=True):
    """Where the server stands, seen from the router; counts are over all replicas."""

    running: int
    waiting: int
    kv_usage: float
    generated_tokens: int
    prompt_tokens: int
    finished: int
    replicas: int
    replicas_ready: int
    version: int
    adapters: tuple[Adapter, ...] = ()
    uptime: float = 0.0


class Answered(Message, frozen=True):
    """A call has been carried out; at most one of the fields is set, as the call asks for."""

    id: str
    home: str
    state: State | None = None
    text: str | None = None
    vectors: Vectors | None = None


ToDetokenizer = Begin | Tokens | Refused | Answered


# Detokenizer -> HTTP server


class TokenText(Part, frozen=True):
    """A token as logprobs report it: its text (special tokens too), its raw bytes, how likely it was."""

    token_id: int
    text: str
    raw: bytes
    logprob: float
    top: tuple[tuple[int, str, bytes, float], ...] = ()


class Text(Message, frozen=True):
    """New text of one sample; the pieces in order are the whole text.

    Attributes:
        token_ids: the tokens that came with it: none where held back text is let go at the end.
        tokens: the same with their logprobs, if the request wants them.
        prompt_tokens: of the prompt, on the first piece, if the request scores its prompt; None for a token
            that has no score.
        version: of the weights that sampled them.
        finish: ``stop``, ``length``, ``abort`` or ``error`` on the last piece of the sample.
        timing: on the last piece of the last sample.
    """

    id: str
    sample: int
    text: str
    token_ids: tuple[int, ...] = ()
    tokens: tuple[TokenText, ...] = ()
    prompt_tokens: tuple[TokenText | None, ...] = ()
    version: int = 0
    finish: str | None = None
    error: str = ""
    timing: Timing | None = None


class Texts(Message, frozen=True):
    """The text of one step, for many requests of one HTTP server."""

    texts: tuple[Text, ...]


ToHttp = Texts | Refused | Answered


# Router <-> model worker


class Reset(Message, frozen=True):
    """Drop whatever another router has left running; the first call of every router."""

    number: int


class Step(Message, frozen=True):
    """Take these in, run one step, report it.

    The ranks of a replica get the same steps in the same order, and so do the same. ``calls`` are carried out
    before the step; of :data:`Call` only those that concern an engine.
    """

    number: int
    requests: tuple[Request, ...] = ()
    aborts: tuple[str, ...] = ()
    calls: tuple[EngineCall, ...] = ()
    prefetch: tuple[str, ...] = ()


ToWorker = Reset | Step


class Problem(Part, frozen=True):
    """Why the engine refuses a request or call, by its id."""

    id: str
    message: str
    code: str


class EngineState(Part, frozen=True):
    """What an engine says of itself after a step."""

    running: int
    waiting: int
    kv_usage: float
    prefilled_tokens: int
    prefix_query_tokens: int
    prefix_hit_tokens: int
    preemptions: int
    has_work: bool
    version: int
    step_seconds: float = 0.0


class WasReset(Message, frozen=True):
    """The engine is empty; all adapters that it has, and the weights that it samples with.

    ``weights`` is the folder of the last update, empty where there was none; ``fresh`` is whether no router
    has talked to it before.
    """

    number: int
    adapters: tuple[Adapter, ...]
    version: int
    weights: str
    fresh: bool = False


class Stepped(Message, frozen=True):
    """What a step brought: tokens, refusals, ids of the calls that were carried out, vectors of ``Embed``."""

    number: int
    tokens: tuple[Token, ...]
    problems: tuple[Problem, ...]
    done: tuple[str, ...]
    vectors: dict[str, Vectors]
    state: EngineState


FromWorker = WasReset | Stepped


def encode(message: msgspec.Struct | Request) -> bytes:
    """A message, or a part of one, as one frame."""
    return msgspec.msgpack.encode(message)


def decoder(union: Any) -> "msgspec.msgpack.Decoder[Any]":
    """Decodes frames of one direction; raises msgspec.DecodeError for any other."""
    return msgspec.msgpack.Decoder(union)
