"""Environments: what is wrong with one that can be known before it is made, and what it may return."""

from pathlib import Path
from typing import Any

import pytest

from asynckit.errors import ConfigError, InputError
from asynckit.rollout.episodes.environment_host import as_number, as_reply
from asynckit.rollout.episodes.environments import arguments_of, check_environment, load_environment
from asynckit.rollout.prompting.prompts import Prompt


def prompt(messages: Any = ({"role": "user", "content": "?"},), **extra: Any) -> Prompt:
    """A prompt, as chat unless said otherwise."""
    text = None if messages else "?"
    return Prompt(0, text, messages, "4", "sums", extra, "sums.jsonl:1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of its own, with sys.path given back afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, code: str) -> str:
    """A module with ``code``; returns its name."""
    module = "environment_" + folder.name.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    return module


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("class Other: pass", "has no 'Game'"),
        ("def Game(): pass", "is no class with a method step"),
        ("class Game: pass", "is no class with a method step"),
        (
            "class Game:\n def __init__(self, board): pass\n def step(self, text): pass",
            "constructor requires board",
        ),
        (
            "class Game:\n def __init__(self, seed, /): pass\n def step(self, text): pass",
            "constructor requires seed",
        ),
        ("1 / 0", "failed: ZeroDivisionError"),
    ],
)
def test_an_unusable_class_is_refused_when_it_is_loaded(folder: Path, code: str, message: str) -> None:
    """Nothing is generated for an environment that can't be made."""
    with pytest.raises(InputError, match=message):
        load_environment(f"{write(folder, code)}:Game", [str(folder)])


@pytest.mark.parametrize(
    ("name", "mend"), [("calculater", "did you mean calculator"), ("mine", "module:Class")]
)
def test_an_unknown_name_is_refused(name: str, mend: str) -> None:
    """A near miss is suggested."""
    with pytest.raises(InputError, match=mend):
        load_environment(name)


def test_a_class_declares_what_it_is_given(folder: Path) -> None:
    """Whatever else its constructor takes has a default."""
    code = "class Game:\n def __init__(self, seed, ground_truth, size=3): pass\n def step(self, text): pass"
    kind = load_environment(f"{write(folder, code)}:Game", [str(folder)])
    assert kind.declared == ("seed", "ground_truth")
    assert not load_environment("calculator").declared


def test_what_is_offered_comes_from_the_prompt() -> None:
    """The column extra_info, as verl has it, or all other columns where there is none."""
    offered = arguments_of(prompt(level=3), seed=7)
    assert offered == {
        "ground_truth": "4",
        "data_source": "sums",
        "extra_info": {"level": 3},
        "messages": [{"role": "user", "content": "?"}],
        "seed": 7,
    }
    assert arguments_of(prompt(extra_info={"a": 1}, b=2), 0)["extra_info"] == {"a": 1}


def test_contradictions_are_found_before_anything_starts() -> None:
    """A reward that nobody gives, and prompts that are no conversation."""
    with pytest.raises(ConfigError, match="no environment to give the reward"):
        check_environment(None, "environment", [prompt()], ())
    with pytest.raises(InputError, match="no method reward"):
        check_environment("calculator", "environment", [prompt()], ())
    with pytest.raises(InputError, match=r"sums\.jsonl:1.*prompts\.chat=true"):
        check_environment("calculator", "none", [prompt(), prompt(messages=None)], ())
    check_environment("calculator", "none", [prompt()], ())


def test_replies_are_text_messages_or_nothing() -> None:
    """Each is passed on; anything else says what step may return."""
    assert as_reply(None, "mine") is None
    assert as_reply("84", "mine") == {"role": None, "content": "84"}
    message = {"role": "user", "content": "84"}
    assert as_reply(message, "mine") == message
    for wrong in (
        84,
        b"84",
        {"content": "84"},
        {"role": "assistant", "content": ""},
        {**message, "content": 8},
    ):
        with pytest.raises(InputError, match="mine: step returned"):
            as_reply(wrong, "mine")
    with pytest.raises(InputError, match="surrogate"):
        as_reply("\ud800", "mine")


def test_rewards_are_finite_numbers() -> None:
    """As those of reward functions are."""
    assert as_number(True, "mine") == 1.0
    for wrong in (float("nan"), "1", None, [1.0]):
        with pytest.raises(InputError, match="mine: reward returned"):
            as_number(wrong, "mine")
