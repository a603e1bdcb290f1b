"""What the logprobs of a token in one place say about a server."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.errors import DependencyError
from asynckit.rollout.engines.openai_probe import meaning, model_card
from asynckit.rollout.engines.openai_wire import LogprobsAfter

LOGITS = st.lists(st.floats(-4, 4), min_size=3, max_size=40).map(lambda rest: [max(rest) + 0.4, *rest])


def logprob(logits: list[float]) -> float:
    """Of the first token."""
    return logits[0] - math.log(math.fsum(math.exp(each) for each in logits))


def probes(logits: list[float], after: LogprobsAfter) -> tuple[float, float, float]:
    """The three logprobs as a server that reports them like this gives them."""
    hot = [each / 2 for each in logits] if after.temperature else logits
    raised = [logits[0] + 3, *logits[1:]] if after.adjustments else logits
    return logprob(logits), 0.0 if after.cuts else logprob(hot), logprob(raised)


SERVERS = {
    "asynckit": LogprobsAfter(temperature=True, adjustments=False, cuts=False),
    "vLLM raw": LogprobsAfter(temperature=False, adjustments=False, cuts=False),
    "vLLM processed": LogprobsAfter(temperature=True, adjustments=True, cuts=True),
    "SGLang": LogprobsAfter(temperature=True, adjustments=True, cuts=False),
    "SGLang original": LogprobsAfter(temperature=False, adjustments=True, cuts=False),
}


@pytest.mark.parametrize("after", SERVERS.values(), ids=SERVERS.keys())
def test_each_kind_of_server_is_recognized(after: LogprobsAfter) -> None:
    """By a token of ordinary likelihood."""
    plain, hot, raised = probes([2.0, 0.5, 0.0, -1.0, -1.0], after)
    assert meaning(plain, hot, raised, same=True) == after


@given(LOGITS, st.sampled_from([*SERVERS.values()]))
def test_no_server_is_trusted_with_more_than_it_can(logits: list[float], after: LogprobsAfter) -> None:
    """Where the place tells nothing, temperatures are not believed in and cuts and bias are assumed."""
    found = meaning(*probes(logits, after), same=True)
    assert after.cuts <= found.cuts
    assert after.adjustments <= found.adjustments
    assert found.temperature <= after.temperature


def test_different_tokens_tell_nothing() -> None:
    """As where rounding decides which of two is likelier."""
    expected = LogprobsAfter(temperature=False, adjustments=True, cuts=True)
    assert meaning(-0.7, -0.9, -0.7, same=False) == expected


@pytest.mark.parametrize(
    ("listing", "wanted", "words"),
    [
        ({"object": "list"}, None, "no list of models"),
        ([], None, "no list of models"),
        ({"data": []}, None, "it has none"),
        ({"data": [{"id": "a"}, {"id": "b"}]}, None, "it has a, b"),
        ({"data": [{"id": "a"}]}, "b", "no model 'b'"),
        ({"data": ["a", {"id": 7}]}, None, "it has none"),
    ],
)
def test_a_model_that_can_t_be_chosen_is_refused(listing: Any, wanted: str | None, words: str) -> None:
    """With what is there to choose from."""
    with pytest.raises(DependencyError, match=words):
        model_card(listing, wanted, "http://one")
