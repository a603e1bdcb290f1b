"""Requests and answers of ``POST /v1/completions``, as pure functions between JSON and our own types.

A server is asked for one sample at a time. With ``n`` samples in one request SGLang gives all of them the
same random numbers where its inference is deterministic, while a seed for each is understood everywhere.

What a server calls a logprob differs. Ours is the log of softmax(logits / temperature), before bias,
penalties and cuts (:class:`asynckit.engine.request.TokenEvent`). :class:`LogprobsAfter` says what a server's
are taken after, and :func:`check_sampling` refuses sampling parameters under which the two would differ.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asynckit.engine.completion import Completion
from asynckit.engine.config import SamplingParams
from asynckit.engine.request import Finish, Request
from asynckit.errors import DependencyError, NoRoom, RequestError

WORKING_SERVERS = (
    "use a server that returns token ids: vLLM from 0.10.2 on, or an SGLang that knows return_token_ids"
)
_COOLEST = 0.01  # vLLM samples anything below at this temperature
_FINISH = {"stop": Finish.STOP, "length": Finish.LENGTH}
_ROUNDING = 1e-3  # how far above 0 arithmetic may lift a logprob


class BrokenOff(Exception):
    """The server ended a sample before it was complete."""


@dataclass(frozen=True)
class LogprobsAfter:
    """Which steps of sampling a server has taken before it reads the logprobs that it reports.

    Attributes:
        temperature: it has divided by the temperature.
        adjustments: it has applied bias and penalties.
        cuts: it has cut off what top-k, top-p and min-p drop.
    """

    temperature: bool
    adjustments: bool
    cuts: bool


@dataclass(frozen=True)
class ServedModel:
    """What a server said about the model.

    Attributes:
        name: how requests name it.
        max_model_len: prompt plus response tokens; None where the server doesn't say.
        logprobs_after: what its logprobs mean.
    """

    name: str
    max_model_len: int | None
    logprobs_after: LogprobsAfter


def check_sampling(sampling: SamplingParams, after: LogprobsAfter) -> None:
    """Refuse what the server can't do, and what would give its logprobs another meaning than ours.

    Raises:
        RequestError: with the first parameter that is in the way.
    """
    for applies, problem, mend in _obstacles(sampling, after):
        if applies:
            raise RequestError(problem, where="sampling", mend=mend)


def _obstacles(sampling: SamplingParams, after: LogprobsAfter) -> list[tuple[bool, str, str]]:
    wants_more = sampling.top_logprobs > 0 or sampling.prompt_logprobs is not None
    return [
        (
            wants_more,
            "top_logprobs and prompt_logprobs are not asked of a server",
            "leave them out, or use --engine torch",
        ),
        (
            sampling.constrained,
            "json_schema and regex would change the server's logprobs",
            "leave them out, or use --engine torch",
        ),
        (
            0 < sampling.temperature < _COOLEST,
            f"servers round temperature={sampling.temperature:g} up to {_COOLEST:g}",
            "use temperature=0, which is greedy",
        ),
        (
            sampling.temperature not in (0.0, 1.0) and not after.temperature,
            f"the server's logprobs are at temperature 1, not at temperature={sampling.temperature:g}",
            "use sampling.temperature=1, or start vLLM with --logprobs-mode processed_logprobs",
        ),
        (
            sampling.cuts and after.cuts,
            "the server's logprobs are taken after top_k, top_p and min_p",
            "leave them out, or start vLLM with --logprobs-mode raw_logprobs and use sampling.temperature=1",
        ),
        (
            sampling.adjusts and after.adjustments,
            "the server's logprobs are taken after bias, penalties, min_tokens and allowed_token_ids",
            "leave them out, or start vLLM with --logprobs-mode raw_logprobs and use sampling.temperature=1",
        ),
    ]


def body_of(request: Request, index: int, served: ServedModel) -> dict[str, Any]:
    """What asks a server for one sample of a request that was checked.

    Every parameter is spelled out: a server takes what is missing from the model's generation_config.json.

    Raises:
        NoRoom: the prompt leaves no room for a response.
        RequestError: the request needs what no server offers.
    """
    sampling = request.sampling
    if request.adapter is not None:
        raise RequestError(
            f"adapter {request.adapter!r} is unknown here",
            where=f"request {request.id!r}",
            mend="a server's adapters are models of their own: name one as openai.model",
        )
    room = _room(request, served)
    body: dict[str, Any] = {
        "model": served.name,
        "prompt": list(request.prompt_ids),
        "n": 1,
        "stream": False,
        "logprobs": 0,
        "return_token_ids": True,
        "seed": (sampling.seed + index) % 2**63,
        "max_tokens": min(sampling.max_tokens, room),
        "min_tokens": min(sampling.min_tokens, room),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": list(sampling.stop),
        "stop_token_ids": list(sampling.stop_token_ids),
        "ignore_eos": sampling.ignore_eos,
    }
    if sampling.logit_bias:
        body["logit_bias"] = dict(sampling.logit_bias)
    if sampling.allowed_token_ids is not None:
        body["allowed_token_ids"] = list(sampling.allowed_token_ids)
    return body


def _room(request: Request, served: ServedModel) -> int:
    """Tokens that a response may have by the server's limit."""
    if served.max_model_len is None:
        return request.sampling.max_tokens
    room = served.max_model_len - len(request.prompt_ids)
    if room < 1:
        raise NoRoom(
            f"the prompt has {len(request.prompt_ids)} tokens and leaves no room for a response: "
            f"together they may have {served.max_model_len}",
            where=f"request {request.id!r}",
            mend="shorten the prompt or raise the server's limit",
        )
    return room


def completion_of(answer: Any, body: Mapping[str, Any], *, version: int, end: float) -> Completion:
    """The sample in a server's answer to ``body``, with the ids and logprobs that the server sampled.

    Raises:
        DependencyError: ids or logprobs are missing, or contradict each other or the request.
        BrokenOff: the server ended the sample early.
    """
    choice = _only_choice(answer)
    ids = _token_ids(choice, "token_ids")
    if choice.get("prompt_token_ids") is not None and choice["prompt_token_ids"] != body["prompt"]:
        raise _wrong("the prompt's token ids that it returns are not those that it was sent")
    reason = choice.get("finish_reason")
    if reason == "abort":
        raise BrokenOff("the server broke the response off")
    if reason not in _FINISH:
        raise _wrong(f"it ended a response for an unknown reason, {reason!r}")
    logprobs = _logprobs(choice, len(ids))
    if len(ids) > body["max_tokens"]:
        raise _wrong(f"it returned {len(ids)} tokens where at most {body['max_tokens']} were asked for")
    allowed = body.get("allowed_token_ids")
    if allowed is not None and not set(ids) <= set(allowed):
        raise _wrong("it ignores allowed_token_ids")
    return Completion(
        token_ids=ids,
        logprobs=logprobs,
        versions=[version] * len(ids),
        top_logprobs=[()] * len(ids),
        finish=_FINISH[reason],
        end=end,
    )


def _only_choice(answer: Any) -> dict[str, Any]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise _wrong("its answer to /v1/completions has not the one choice that was asked for")
    return choices[0]


def _token_ids(choice: dict[str, Any], key: str) -> list[int]:
    ids = choice.get(key)
    if ids is None:
        raise DependencyError(
            f"the server's answer has no {key}, and text is never turned back into tokens",
            mend=WORKING_SERVERS,
        )
    if not isinstance(ids, list) or not all(type(id_) is int and id_ >= 0 for id_ in ids):
        raise _wrong(f"its {key} are not a list of token ids")
    return ids


def _logprobs(choice: dict[str, Any], length: int) -> list[float]:
    given = choice.get("logprobs")
    values = given.get("token_logprobs") if isinstance(given, dict) else None
    if values is None and length == 0:
        return []
    if values is None:
        raise DependencyError(
            "the server's answer has no logprobs.token_logprobs",
            mend="use a server that returns the logprobs of sampled tokens, such as vLLM",
        )
    if not isinstance(values, list) or len(values) != length:
        count = len(values) if isinstance(values, list) else "no list of"
        raise _wrong(f"it returned {length} token ids and {count} logprobs")
    if not all(isinstance(value, int | float) and _is_logprob(value) for value in values):
        raise _wrong("its logprobs are not all finite numbers up to 0")
    return [min(float(value), 0.0) for value in values]


def _is_logprob(value: float) -> bool:
    return math.isfinite(value) and value <= _ROUNDING


def _wrong(problem: str) -> DependencyError:
    return DependencyError(f"the server can't be used: {problem}", mend=WORKING_SERVERS)
