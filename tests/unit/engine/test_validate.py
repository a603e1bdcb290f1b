"""Requests that can't be right are refused with a reason before anything happens."""

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asynckit.engine.blocks import BlockPool
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.open_requests import OpenRequests
from asynckit.engine.request import Request
from asynckit.engine.scheduler import Scheduler
from asynckit.engine.simulated import SimulatedEngine
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.engine.validate import check_request, check_types, ending_ids
from asynckit.errors import RequestError

EOS = frozenset({0})


def check(request: Request) -> None:
    check_types(request)
    check_request(request, vocabulary=100, eos_ids=EOS)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *(({name: NAN}, f"{name} must be a finite") for name in ("temperature", "top_p", "min_p")),
        *(({name: INF}, f"{name} must be a finite") for name in ("repetition_penalty", "presence_penalty")),
        ({"frequency_penalty": NAN}, "frequency_penalty must be a finite"),
        ({"frequency_penalty": 2.5}, "frequency_penalty must be at most 2"),
        ({"presence_penalty": -2.5}, "presence_penalty must be at least -2"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be greater than 0"),
        ({"temperature": 1e-30}, r"temperature must be 0 \(greedy\) or at least"),
        ({"logit_bias": {"5": NAN}}, "logit_bias of token 5 must be from -100 to 100, not nan"),
        ({"logit_bias": {"5": 100.5}}, "logit_bias of token 5 must be from -100 to 100"),
        ({"logit_bias": {"100": 1.0}}, "logit_bias: token id 100 is outside the vocabulary of 100"),
        ({"logit_bias": {"-1": 1.0}}, "logit_bias: '-1' is not a token id"),
        ({"logit_bias": {"\u0663": 1.0}}, "is not a token id"),
        ({"logit_bias": {"9" * 5000: 1.0}}, "is not a token id"),
        ({"logit_bias": {"5": 1.0, "05": 1.0}}, "logit_bias names a token id twice"),
        ({"logit_bias": {5: 1.0}}, "logit_bias has the wrong type"),
        ({"allowed_token_ids": ()}, "allowed_token_ids is empty"),
        ({"allowed_token_ids": (5, 100)}, "allowed_token_ids: token id 100 is outside"),
        ({"allowed_token_ids": (0,), "min_tokens": 1}, "nothing but tokens that min_tokens forbids"),
        ({"stop_token_ids": (-1,)}, "stop_token_ids: token id -1 is outside"),
        ({"stop": ("a", "")}, "stop string must not be empty"),
        ({"min_tokens": 129}, r"min_tokens \(129\) must be at most max_tokens \(128\)"),
        ({"min_tokens": -1}, "min_tokens must be at least 0"),
        ({"top_logprobs": 21}, "top_logprobs must be at most 20"),
        ({"prompt_logprobs": -1}, "prompt_logprobs must be at least 0"),
        ({"json_schema": "{}", "regex": "a"}, "exclude each other"),
        ({"regex": "a", "ignore_eos": True}, "ignore_eos contradicts"),
        ({"seed": 1.5}, "seed has the wrong type: 1.5"),
        ({"seed": True}, "seed has the wrong type"),
        ({"temperature": "1"}, "temperature has the wrong type"),
        ({"temperature": 10**400}, "temperature has the wrong type"),
        ({"stop": "ab"}, "stop has the wrong type"),
        ({"stop_token_ids": (1.0,)}, "stop_token_ids has the wrong type"),
        ({"json_schema": {"type": "object"}}, "json_schema has the wrong type"),
    ],
)
def test_wrong_parameters_are_refused(change: dict[str, Any], words: str) -> None:
    """Each with its own reason."""
    with pytest.raises(RequestError, match=words):
        check(Request("r", (5,), replace(SamplingParams(), **change)))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request("r", ()), "the prompt is empty"),
        (Request("r", (5, 100)), "the prompt: token id 100 is outside"),
        (Request("r", (5, 1.0)), "must be an integer, not 1.0"),  # type: ignore[arg-type]
        (Request("r", (True,)), "must be an integer"),
        (Request("r", (5,), n=0), "n must be at least 1"),
        (Request("r", (5,), n=10**9), "at most 4096"),
    ],
)
def test_wrong_requests_are_refused(request_: Request, words: str) -> None:
    """Ids that are no ids would end the whole batch in the model."""
    with pytest.raises(RequestError, match=words) as caught:
        check(request_)
    assert caught.value.where == "request 'r'"


WRONG_TYPES: dict[str, tuple[Any, ...]] = {
    "id": ([], {}, None, 3, "", b"r"),
    "prompt_ids": (
        *([5], range(5), {5: 6}, b"55", "55", None, 5, iter((5,))),
        *((each for each in (5,)), np.array([5, 6]), torch.tensor([[5, 6]]), np.zeros((9, 9))),
    ),
    "sampling": (None, {}, {"temperature": 0.0}, SamplingParams, EngineConfig()),
    "n": (1.0, "1", None, True, np.int64(1), [1]),
    "priority": ("high", 1.0, None, False, np.zeros(3)),
    "adapter": (5, True, [], b"a", Path("a")),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG_TYPES.items() for value in values]
)
def test_fields_of_wrong_types_are_refused_before_anything_else(name: str, value: object) -> None:
    """By the same sentence everywhere: which field, what it should be and is, and what to pass instead."""
    request = Request(**{"id": "r", "prompt_ids": (5,), name: value})  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=f"{name} must be ") as caught:
        check_types(request)
    assert caught.value.mend
    assert "\n" not in str(caught.value)
    known = OpenRequests(Scheduler(BlockPool(4, 4), max_running=1, max_step_tokens=4, max_model_len=4), print)
    engine = SimulatedEngine.load(EngineConfig(), SimulatedConfig())
    for refuse in (known.check_new, engine.add):
        with pytest.raises(RequestError, match=f"{name} must be "):
            refuse(request)
    assert not engine.has_work()


@pytest.mark.parametrize("value", [None, {}, "r", {"id": "r", "prompt_ids": (5,)}])
def test_what_is_no_request_is_refused(value: Any) -> None:
    """A dict of the right fields, for one."""
    with pytest.raises(RequestError, match="is not a Request"):
        check(value)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"temperature": 0.0, "top_k": 10**7, "top_p": 1, "min_p": 1.0},
        {"logit_bias": {"0": -100, "99": 100.0}},
        {"allowed_token_ids": (0,)},
        {"allowed_token_ids": (0,), "min_tokens": 1, "ignore_eos": True},
        {"min_tokens": 128},
        {"top_logprobs": 20, "prompt_logprobs": 0},
        {"regex": "a*", "stop": ("b",), "stop_token_ids": (3,)},
    ],
)
def test_unusual_but_right_parameters_pass(change: dict[str, Any]) -> None:
    """Limits are inclusive; whole numbers are numbers."""
    check(Request("r", (0, 99), replace(SamplingParams(), **change), n=4096))


@given(st.builds(dict, top_p=st.floats(), temperature=st.floats(), min_p=st.floats()))
def test_any_floats_are_judged_without_crashing(change: dict[str, float]) -> None:
    """Either accepted or refused, and nothing else, NaN included."""
    params = replace(SamplingParams(), **change)  # type: ignore[arg-type]
    fine = all(math.isfinite(each) for each in change.values())
    fine &= 0 < params.top_p <= 1 and 0 <= params.min_p <= 1
    fine &= params.temperature == 0 or 1e-5 <= params.temperature <= 100
    with nullcontext() if fine else pytest.raises(RequestError):
        check(Request("r", (5,), params))


def test_ending_tokens_follow_ignore_eos() -> None:
    """Stop tokens always end; end-of-text only where it is not ignored."""
    params = SamplingParams(stop_token_ids=(4,))
    assert ending_ids(params, EOS) == {0, 4}
    assert ending_ids(replace(params, ignore_eos=True), EOS) == {4}
