"""Rewards by name: a person's functions and classes, what a wrong one costs, and components."""

from pathlib import Path
from typing import Any

import pytest

from asynckit.errors import ConfigError, InputError
from asynckit.rollout.config import RewardConfig
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.scoring.reward_loading import check_rewards, choose_rewards, load_reward
from asynckit.rollout.scoring.rewards import Failure, Reward, RewardInput, Score, evaluate


def prompt(truth: Any = None, **extra: Any) -> Prompt:
    return Prompt(0, "2 + 3?", None, truth, "sums", extra, "f.jsonl:1")


def module_of(folder: Path, code: str) -> str:
    """A module named after the test's folder, so that modules never collide."""
    module = "reward_" + folder.name.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    return module


def user_reward(folder: Path, code: str, name: str = "score", **args: str) -> Reward:
    """A person's reward, opened."""
    reward = load_reward(f"{module_of(folder, code)}:{name}", import_paths=[str(folder)], args=args)
    reward.open()
    return reward


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading puts folders on sys.path; each test gives them back."""
    monkeypatch.syspath_prepend(".")


def test_a_function_written_for_verl_works_as_it_is(tmp_path: Path) -> None:
    """A function of verl's signature, with its extra_info column and its dict of parts."""
    reward = user_reward(
        tmp_path,
        "def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):\n"
        "    assert not kwargs\n"
        "    right = solution_str == ground_truth\n"
        "    return {'score': float(right), 'index': extra_info['index'], 'acc': right}\n",
        "compute_score",
    )
    given = RewardInput("5", prompt("5", extra_info={"index": 7}, ability="math"))
    assert evaluate(reward, given) == Score(1.0, {"index": 7.0, "acc": 1.0})


def test_a_function_gets_what_it_declares(tmp_path: Path) -> None:
    """Every offered name arrives, by keyword, under its documented meaning."""
    reward = user_reward(
        tmp_path,
        "def score(*, response, prompt, messages, extra_info, threshold=0.5):\n"
        "    assert prompt == '2 + 3?' and extra_info == {'level': 1}\n"
        "    assert [tuple(m.values()) for m in messages] == [('user', prompt), ('assistant', response)]\n"
        "    return threshold\n",
    )
    assert evaluate(reward, RewardInput("5", prompt("5", level=1))) == Score(0.5)


def test_an_async_function_keeps_its_event_loop(tmp_path: Path) -> None:
    """Clients that live in one event loop can be reused from call to call."""
    reward = user_reward(
        tmp_path,
        "import asyncio\nloops = set()\n"
        "async def score(response):\n"
        "    await asyncio.sleep(0)\n"
        "    loops.add(asyncio.get_running_loop())\n"
        "    return len(loops)\n",
    )
    assert [evaluate(reward, RewardInput("", prompt())) for _ in range(2)] == [Score(1.0)] * 2
    reward.close()


def test_a_function_cannot_change_the_prompt(tmp_path: Path) -> None:
    """The prompt serves the other samples of its group and the record."""
    reward = user_reward(tmp_path, "def score(extra_info):\n    return extra_info.pop('level')\n")
    given = RewardInput("", prompt(level=1))
    assert [evaluate(reward, given) for _ in range(2)] == [Score(1.0)] * 2


@pytest.mark.parametrize(
    "value", ["numpy.float32(0.5)", "numpy.array(0.5)", "0.5", "{'reward': 0.5}", "fractions.Fraction(1, 2)"]
)
def test_numbers_of_other_libraries_count(tmp_path: Path, value: str) -> None:
    """Rewards are often computed with NumPy."""
    reward = user_reward(tmp_path, f"import numpy, fractions\ndef score():\n    return {value}\n")
    assert evaluate(reward, RewardInput("", prompt())) == Score(0.5)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("None", "the reward is of type NoneType"),
        ("'1.0'", "the reward is of type str"),
        ("[1.0]", "the reward is of type list"),
        ("float('nan')", "the reward is nan"),
        ("{}", "has no score, only nothing"),
        ("{'acc': 1}", "has no score, only acc"),
        ("{'score': 1, 'pred': 'x'}", "pred is of type str"),
        ("{'score': 1, 'acc': float('inf')}", "acc is inf"),
        ("1 / 0", "ZeroDivisionError: division by zero ("),
        ("exit(3)", "SystemExit: 3 ("),
        ("(_ for _ in ()).throw(BaseExceptionGroup('g', [SystemExit(1)]))", "BaseExceptionGroup: g ("),
        ("__import__('json').loads('{')", "reward_"),
    ],
)
def test_what_is_no_score_fails_the_sample(tmp_path: Path, value: str, message: str) -> None:
    """One bad call becomes one failed sample that says why, and where in the person's file."""
    reward = user_reward(tmp_path, f"def score():\n    return {value}\n")
    failure = evaluate(reward, RewardInput("", prompt()))
    assert isinstance(failure, Failure)
    assert message in failure.error
    if "(" in message:
        assert failure.error.endswith(".py:2)")


@pytest.mark.parametrize("raised", ["SystemExit(1)", "asyncio.CancelledError()", "ValueError('no')"])
def test_a_failing_async_function_can_be_called_again(tmp_path: Path, raised: str) -> None:
    """Whatever an async function raises, the next sample is scored as if nothing had been."""
    code = f"import asyncio\nasync def score(response):\n    if response: raise {raised}\n    return 1\n"
    reward = user_reward(tmp_path, code)
    failure = evaluate(reward, RewardInput("x", prompt()))
    assert isinstance(failure, Failure)
    assert (
        failure.error.startswith(raised.removeprefix("asyncio.").partition("(")[0])
        or "Cancelled" in failure.error
    )
    assert evaluate(reward, RewardInput("", prompt())) == Score(1.0)
    reward.close()


def test_ctrl_c_inside_a_function_is_not_swallowed(tmp_path: Path) -> None:
    """Ctrl-C ends the run, wherever it strikes."""
    reward = user_reward(tmp_path, "def score():\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        evaluate(reward, RewardInput("", prompt()))


@pytest.mark.parametrize("name", ["exact_mach", "", ":", "rewards:", ":score"])
def test_unknown_names_are_refused(name: str) -> None:
    """A typing error in a built-in's name gets the near miss."""
    with pytest.raises(
        InputError, match="did you mean exact_match" if name == "exact_mach" else "there is no reward"
    ):
        load_reward(name)


# --- a person's class ---

JUDGE = """
import asyncio
log = []
class Judge:
    made = 0
    def __init__(self, bonus=1, *, words=("a",)):
        Judge.made += 1
        self.bonus, self.words = bonus, words
    async def score(self, response, ground_truth):
        await asyncio.sleep(0)
        return self.bonus * (response == ground_truth)
    async def close(self):
        log.append("closed")
"""


def test_a_class_is_instantiated_once_with_its_settings(tmp_path: Path) -> None:
    """Settings are text, JSON where it parses; loading alone makes no instance, close() is waited for."""
    loaded = load_reward(
        f"{module_of(tmp_path, JUDGE)}:Judge", import_paths=[str(tmp_path)], args={"bonus": "0.5"}
    )
    module = __import__(module_of(tmp_path, JUDGE))
    assert module.Judge.made == 0
    loaded.open()
    assert [evaluate(loaded, RewardInput("5", prompt("5"))) for _ in range(2)] == [Score(0.5)] * 2
    assert module.Judge.made == 1
    loaded.close()
    assert module.log == ["closed"]


def test_score_comes_before_call_and_either_will_do(tmp_path: Path) -> None:
    """Base classes of libraries bring a __call__ of their own; static methods count too."""
    code = (
        "class Base:\n    def __call__(self, *args): raise NotImplementedError\n"
        "class Both(Base):\n    @staticmethod\n    def score(response): return 1\n"
        "class Call:\n    def __call__(self, response, **rest): return len(rest)\n"
    )
    given = RewardInput("x", prompt())
    assert evaluate(user_reward(tmp_path, code, "Both"), given) == Score(1.0)
    assert evaluate(user_reward(tmp_path, code, "Call"), given) == Score(4.0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def __init__(self, model): pass\n    def score(self): pass", "its constructor requires model"),
        ("def __init__(self, model, /): pass\n    def score(self): pass", "its constructor requires model"),
        ("pass", "has neither score nor __call__"),
        ("score = 3", "A.score is no method"),
        ("def score(self, style): pass", "it requires style"),
        ("def score(): pass", "does not take self"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused_before_it_is_instantiated(
    tmp_path: Path, body: str, message: str
) -> None:
    """What its declaration shows is found without loading what its constructor loads."""
    module = module_of(tmp_path, f"class A:\n    {body}\n")
    with pytest.raises(InputError, match=message):
        load_reward(f"{module}:A", import_paths=[str(tmp_path)])


@pytest.mark.parametrize(
    ("raised", "message"), [("OSError('no GPU')", "OSError: no GPU"), ("SystemExit(3)", "SystemExit: 3")]
)
def test_a_constructor_that_raises_is_an_input_error_with_its_line(
    tmp_path: Path, raised: str, message: str
) -> None:
    """Whatever it raises is told with the place in the person's file."""
    code = f"class A:\n    def __init__(self):\n        raise {raised}\n    def score(self): pass\n"
    with pytest.raises(InputError, match=rf"{message} \(.*\.py:3\)"):
        user_reward(tmp_path, code, "A")


def test_a_function_takes_settings_too(tmp_path: Path) -> None:
    """As verl's reward_kwargs; each call gets its own copy, and what a call brings is no setting."""
    code = (
        "def score(response, words, **rest):\n    words.append(response)\n    return len(words) + rest['x']\n"
    )
    reward = user_reward(tmp_path, code, words="[1, 2]", x="10", response="not this")
    assert reward.settings == {"words", "x"}
    assert [evaluate(reward, RewardInput("r", prompt())) for _ in range(2)] == [Score(13.0)] * 2


def test_a_setting_that_nothing_takes_is_refused(tmp_path: Path) -> None:
    """A typing error in a setting's name gets the near miss."""
    module = module_of(tmp_path, JUDGE)
    for key, mend in (("bonsu", "did you mean bonus"), ("zzz", "there is bonus, words")):
        config = RewardConfig(name=f"{module}:Judge", args={"bonus": "1", key: "2"})
        with pytest.raises(ConfigError, match=mend):
            check_rewards(config, import_paths=[str(tmp_path)])
    with pytest.raises(ConfigError, match="built-in rewards take none"):
        check_rewards(RewardConfig(name="none", args={"x": "1"}))


# --- components ---


def test_auto_may_be_a_component() -> None:
    """It is recorded under the name of what it stands for, and nothing is there twice."""
    chosen = choose_rewards(RewardConfig(components={"auto": 1.0, "m:f": 0.5}), [prompt(5)])
    assert chosen.components == {"last_number": 1.0, "m:f": 0.5}
    with pytest.raises(ConfigError, match="twice"):
        choose_rewards(RewardConfig(components={"auto": 1.0, "last_number": 0.5}), [prompt(5)])


def test_a_name_and_components_contradict_each_other() -> None:
    """Neither is silently left out."""
    with pytest.raises(ConfigError, match="leave out one"):
        choose_rewards(RewardConfig(name="none", components={"last_number": 1.0}), [prompt(5)])


def test_every_component_has_to_suit_the_prompts() -> None:
    """As a reward alone has to."""
    with pytest.raises(InputError, match="last_number needs"):
        choose_rewards(RewardConfig(components={"none": 1.0, "last_number": 0.5}), [prompt("six")])
