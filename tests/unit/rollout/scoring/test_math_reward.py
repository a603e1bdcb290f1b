"""``math_verify``: what it takes for the ground truth, what for the answer, and how it ends in time."""

from typing import Any

import pytest

from asynckit.errors import DependencyError, InputError
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.scoring import math_reward
from asynckit.rollout.scoring.math_reward import as_latex, import_math_verify, is_readable, score_math
from asynckit.rollout.scoring.rewards import RewardInput, Score


def score(response: str, truth: Any) -> Score:
    return score_math(RewardInput(response, Prompt(0, "?", None, truth, "d", {}, "f.jsonl:1")))


@pytest.mark.parametrize(
    ("truth", "response", "value"),
    [
        ("5", r"so \boxed{5}", 1.0),
        (5, "The answer is 5.", 1.0),
        ("reasoning #### 1,234", r"\boxed{1234}", 1.0),
        (1e-05, r"\boxed{0.00001}", 1.0),
        (r"\frac{1}{2}", r"\boxed{0.5}", 1.0),
        ("1/2", r"$\frac{2}{4}$", 1.0),
        (r"$\frac{1}{2}$", r"\boxed{\dfrac12}", 1.0),
        ("x^2 + 2x + 1", r"\boxed{(x+1)^2}", 1.0),
        ("[1, 2)", r"\boxed{[1,2)}", 1.0),
        ("[1, 2)", r"\boxed{[1,2]}", 0.0),
        (r"\{1, 2\}", r"\boxed{\{2, 1\}}", 1.0),
        (r"(-\infty, 3] \cup [5, \infty)", r"\boxed{(-\infty,3]\cup[5,\infty)}", 1.0),
        (r"\sqrt{8}", r"\boxed{2\sqrt{2}}", 1.0),
        ("x = 5", r"\boxed{5}", 1.0),
        ("5", r"first \boxed{5}, no: \boxed{6}", 0.0),
        ("5", r"\boxed{6}, not 5", 0.0),
        ("5", "no idea", 0.0),
        ("5", "", 0.0),
        ("5", r"\boxed{", 0.0),
        (r"\text{Tuesday}", r"\boxed{\text{Tuesday}}", 1.0),
    ],
)
def test_equal_mathematics_is_equal_however_it_is_written(truth: Any, response: str, value: float) -> None:
    """Boxed comes before everything else, and the last box counts."""
    assert score(response, truth) == Score(value)


@pytest.mark.parametrize(
    "response",
    [
        r"\boxed{" + "(" * 3000,
        r"\boxed{" * 500,
        "1" * 20_000,
        "$" * 5000,
        r"\boxed{\frac{1}{0}}",
        "\x00\udcff",
    ],
)
def test_nonsense_is_wrong_and_no_failure(response: str) -> None:
    """Models write anything; that costs them the reward and nobody a sample."""
    assert score(response, "5").value == 0.0


def test_what_takes_too_long_is_wrong_and_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tower of powers would be computed for ever; the next response is scored as ever."""
    monkeypatch.setattr(math_reward, "_SECONDS", 0.5)
    tower = r"\boxed{(12345!)! + 1}"
    assert score(tower, "5") == Score(0.0, {"verifier_error": 1.0})
    assert score("5", "5") == Score(1.0)


@pytest.mark.parametrize("truth", ["$", "####", r"\boxed{}"])
def test_a_ground_truth_that_cannot_be_read_is_no_silent_zero(truth: str) -> None:
    """The sample fails, at the line of its prompt."""
    with pytest.raises(InputError, match="can't be read as mathematics") as caught:
        score("5", truth)
    assert caught.value.where == "f.jsonl:1"


@pytest.mark.parametrize(("truth", "readable"), [(5, True), ("x", True), ("  ", False), (True, False)])
def test_only_numbers_and_texts_can_be_mathematics(truth: Any, readable: bool) -> None:
    """What can't be is refused before anything is generated."""
    assert is_readable(truth) == readable


def test_numbers_are_written_in_digits() -> None:
    """1e-5 would be read as e times one, minus five."""
    assert as_latex("1e-5") == r"\boxed{0.00001}"


def test_a_missing_package_comes_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra's name is what a person needs to know."""
    monkeypatch.setitem(__import__("sys").modules, "math_verify", None)
    with pytest.raises(DependencyError, match=r"asynckit\[math\]"):
        import_math_verify()
