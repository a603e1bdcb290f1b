"""What a request must look like before it may come near the model, as pure checks.

One bad number in a batch fails everybody in it, so nothing is taken on trust: not even types, as requests
also come from Python. Types come first (:func:`check_types`), because everything else relies on them.
"""

import functools
import re
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args, get_origin, get_type_hints

from asynckit.bounds import violations
from asynckit.engine.config import SamplingParams
from asynckit.engine.request import Request
from asynckit.errors import RequestError

MOST_SAMPLES = 4096
_COOLEST = 1e-5  # logits over a lower temperature may overflow float32
_BIAS_LIMIT = 100.0
_TOKEN_ID = re.compile(r"[0-9]{1,18}")


def check_types(request: object) -> None:
    """Refuse what is not a request, or one with fields of other types than :class:`Request` declares.

    What is in the prompt and in the sampling parameters is left to :func:`check_request`.

    Raises:
        RequestError: with the first field that is wrong and what it should be.
    """
    if not isinstance(request, Request):
        raise RequestError(f"{_short(request)} is not a Request", mend="pass Request(id, prompt_ids, ...)")
    where = f"request {_short(request.id)}"
    for name, (fits, wanted, mend) in _FIELDS.items():
        value = getattr(request, name)
        if not fits(value):
            raise RequestError(f"{name} must be {wanted}, not {_short(value)}", where=where, mend=mend)


_FIELDS: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "id": (
        lambda value: isinstance(value, str) and value != "",
        "a string with something in it",
        "pass str(...) of whatever names the request",
    ),
    "prompt_ids": (
        lambda value: isinstance(value, tuple),
        "a tuple of token ids",
        "pass tuple(ids), or tuple(ids.tolist()) of an array or tensor",
    ),
    "sampling": (
        lambda value: isinstance(value, SamplingParams),
        "SamplingParams",
        "pass SamplingParams(...), or leave it out for the defaults",
    ),
    "n": (lambda value: type(value) is int, "an integer", "pass int(...) of it"),
    "priority": (lambda value: type(value) is int, "an integer", "pass int(...) of it"),
    "adapter": (
        lambda value: value is None or isinstance(value, str),
        "a name or None",
        "pass the name that the adapter is registered under",
    ),
}


def check_request(request: Request, *, vocabulary: int, eos_ids: frozenset[int]) -> None:
    """Refuse a request that no engine over this vocabulary could serve.

    Its types must have passed :func:`check_types`. Whether it fits this engine's cache and context, and
    whether its grammar compiles, is the engine's to say.

    Raises:
        RequestError: with the first thing that is wrong.
    """
    for problem in _problems(request, vocabulary, eos_ids):
        raise RequestError(problem, where=f"request {request.id!r}")


def _problems(request: Request, vocabulary: int, eos_ids: frozenset[int]) -> Iterator[str]:
    if not 1 <= request.n <= MOST_SAMPLES:
        yield f"n must be at least 1 and at most {MOST_SAMPLES}, not {request.n}"
    yield from _wrong_types(request.sampling)
    yield from _wrong_bias(request.sampling)
    yield from (f"{name} {problem}" for name, problem in violations(request.sampling))
    yield from _wrong_ids(request, vocabulary)
    yield from _contradictions(request.sampling, eos_ids)


@functools.cache
def _declared() -> dict[str, Any]:
    return get_type_hints(SamplingParams)


def _wrong_types(sampling: SamplingParams) -> Iterator[str]:
    for name, declared in _declared().items():
        value = getattr(sampling, name)
        if not _fits(value, declared):
            yield f"{name} has the wrong type: {_short(value)}"


def _fits(value: Any, declared: Any) -> bool:
    arguments = get_args(declared)
    if isinstance(declared, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if get_origin(declared) is tuple:
        return isinstance(value, tuple) and all(_fits(each, arguments[0]) for each in value)
    if get_origin(declared) is dict:
        return isinstance(value, dict) and all(
            _fits(key, arguments[0]) and _fits(each, arguments[1]) for key, each in value.items()
        )
    if declared is float:
        return isinstance(value, float) or (type(value) is int and abs(value) < 2**53)
    return type(value) is declared


def _short(value: object) -> str:
    text = " ".join(repr(value).split())  # arrays take several lines
    return text if len(text) <= 60 else text[:59] + "…"


def _wrong_ids(request: Request, vocabulary: int) -> Iterator[str]:
    sampling = request.sampling
    if not request.prompt_ids:
        yield "the prompt is empty"
    yield from _outside("the prompt", request.prompt_ids, vocabulary)
    yield from _outside("stop_token_ids", sampling.stop_token_ids, vocabulary)
    yield from _outside("allowed_token_ids", sampling.allowed_token_ids or (), vocabulary)
    unreadable = [key for key in sampling.logit_bias if not _TOKEN_ID.fullmatch(key)]
    if unreadable:
        yield f"logit_bias: {_short(unreadable[0])} is not a token id"
        return
    ids = [int(key) for key in sampling.logit_bias]
    yield from _outside("logit_bias", ids, vocabulary)
    if len(set(ids)) < len(ids):
        yield "logit_bias names a token id twice"


def _outside(name: str, ids: Iterable[object], vocabulary: int) -> Iterator[str]:
    for id_ in ids:
        if type(id_) is not int:
            yield f"{name}: a token id must be an integer, not {_short(id_)}"
        elif not 0 <= id_ < vocabulary:
            yield f"{name}: token id {id_} is outside the vocabulary of {vocabulary}"


def _wrong_bias(sampling: SamplingParams) -> Iterator[str]:
    for key, bias in sampling.logit_bias.items():
        if not -_BIAS_LIMIT <= bias <= _BIAS_LIMIT:  # NaN fails both
            yield f"logit_bias of token {key} must be from {-_BIAS_LIMIT:g} to {_BIAS_LIMIT:g}, not {bias}"


def _contradictions(sampling: SamplingParams, eos_ids: frozenset[int]) -> Iterator[str]:
    allowed = sampling.allowed_token_ids
    if 0 < sampling.temperature < _COOLEST:
        yield f"temperature must be 0 (greedy) or at least {_COOLEST:g}, not {sampling.temperature}"
    if "" in sampling.stop:
        yield "a stop string must not be empty"
    if allowed == ():
        yield "allowed_token_ids is empty: no token could be chosen"
    if sampling.min_tokens > sampling.max_tokens:
        yield f"min_tokens ({sampling.min_tokens}) must be at most max_tokens ({sampling.max_tokens})"
    if allowed and sampling.min_tokens and set(allowed) <= ending_ids(sampling, eos_ids):
        yield "allowed_token_ids holds nothing but tokens that min_tokens forbids at first"
    if sampling.json_schema is not None and sampling.regex is not None:
        yield "json_schema and regex exclude each other"
    if sampling.constrained and sampling.ignore_eos:
        yield "ignore_eos contradicts json_schema and regex: a complete text must be able to end"


def ending_ids(sampling: SamplingParams, eos_ids: frozenset[int]) -> frozenset[int]:
    """Token ids that end a response with these parameters."""
    return frozenset(sampling.stop_token_ids) | (frozenset() if sampling.ignore_eos else eos_ids)
