"""The calculator: right, and safe with whatever a model writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.rollout.episodes.calculator import LARGEST, Calculator, answer


@pytest.mark.parametrize(
    ("call", "result"),
    [
        ("12*7", "84"),
        ("(2 + 3) * -4", "-20"),
        ("2**10 // 3 % 7", "5"),
        ("0.1 + 0.2", "0.3"),
        ("1/3", "0.333333333333"),
        ("6/2", "3"),
        ('{"name": "calculator", "arguments": {"expression": "12*7"}}', "84"),
    ],
)
def test_it_computes(call: str, result: str) -> None:
    """What a model asks for in either form is answered."""
    assert answer(call) == result


@pytest.mark.parametrize(
    "call",
    [
        "9**9**9",
        "(10**9)**(10**9)",
        "1e999",
        "(-8)**0.5",
        "1/0",
        "0**-1",
        "__import__('os').getcwd()",
        "x",
        "'a' * 9",
        "True",
        "1j",
        "12*",
        "",
        "1\x00",
        "1 + " * 60 + "1",
        "(" * 90 + "1" + ")" * 90 + "x" * 200,
        "9" * 100,
        "{",
        "{}",
        '{"arguments": 3}',
        '{"arguments": {"expression": [1]}}',
    ],
)
def test_what_is_wrong_or_large_is_an_error_for_the_model_to_read(call: str) -> None:
    """No names, no calls, no numbers that take seconds."""
    assert answer(call).startswith("error: ")


@given(st.text(st.sampled_from("0123456789.+-*/%() e"), max_size=60))
def test_whatever_is_asked_is_answered(call: str) -> None:
    """It never raises, and its numbers stay within their bounds."""
    result = answer(call)
    assert result.startswith("error: ") or abs(float(result)) <= LARGEST


def test_it_answers_every_call_and_ends_without_one() -> None:
    """A call that a stop string cut off counts too."""
    text = 'First <tool_call>1+1</tool_call>, then <tool_call>{"arguments": {"expression": "3*3"}}'
    assert Calculator().step(text) == "2\n9"
    assert Calculator().step("It is 9.") is None
