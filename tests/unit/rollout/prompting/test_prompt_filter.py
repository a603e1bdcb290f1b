"""Filtering by length: which prompts stay, what is said, and when a tokenizer is loaded at all."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Never

import pytest
from tiny_models import save_tokenizer

from asynckit.errors import ConfigError, InputError
from asynckit.rollout.config import PromptsConfig
from asynckit.rollout.prompting.encoding import encode_prompt
from asynckit.rollout.prompting.prompts import load_prompts

LETTERS = [{"prompt": "x" * length} for length in (1, 5, 3, 9)]


@pytest.fixture
def config(tmp_path: Path) -> PromptsConfig:
    """Text prompts of 1, 5, 3 and 9 characters."""
    file = tmp_path / "p.jsonl"
    file.write_text("\n".join(map(json.dumps, LETTERS)))
    return PromptsConfig(source=str(file))


@pytest.fixture
def tokenizer(tmp_path: Path) -> Callable[[], Any]:
    from transformers import AutoTokenizer

    save_tokenizer(tmp_path / "tokenizer")
    return lambda: AutoTokenizer.from_pretrained(tmp_path / "tokenizer")


def nobody() -> Never:
    """A tokenizer that must not be loaded."""
    raise AssertionError


def test_no_tokenizer_is_loaded_where_no_tokens_are_counted(config: PromptsConfig) -> None:
    """It costs seconds, and not every run has a filter."""
    assert len(load_prompts(config, nobody)) == 4
    assert len(load_prompts(replace(config, max_chars=3), nobody)) == 2


def test_prompts_within_the_bounds_stay_in_order_and_the_others_are_counted(
    config: PromptsConfig, capsys: pytest.CaptureFixture[str], tokenizer: Callable[[], Any]
) -> None:
    """Indices have no gaps, and nobody has to wonder where prompts went."""
    prompts = load_prompts(replace(config, min_tokens=2, max_tokens=5), tokenizer)
    assert [(prompt.index, prompt.text) for prompt in prompts] == [(0, "xxxxx"), (1, "xxx")]
    assert all(2 <= len(encode_prompt(tokenizer(), prompt)) <= 5 for prompt in prompts)
    said = capsys.readouterr()
    assert said.err == (
        f"{config.source}: 2 of 4 prompts left out for their length, "
        "1 with fewer than 2 tokens, 1 with more than 5 tokens\n"
    )
    assert said.out == ""


def test_the_chat_template_counts(config: PromptsConfig, tokenizer: Callable[[], Any]) -> None:
    """The engine's limits are about what it gets, and a message is three tokens longer than its text here."""
    prompts = load_prompts(replace(config, chat=True, max_tokens=6), tokenizer)
    assert [prompt.chat()[0]["content"] for prompt in prompts] == ["x", "xxx"]


def test_characters_of_all_messages_count(config: PromptsConfig) -> None:
    """The system message is a part of the prompt."""
    assert len(load_prompts(replace(config, system="ab", max_chars=5))) == 2


def test_the_limit_counts_what_stays(config: PromptsConfig) -> None:
    """Who asks for one prompt of at most four characters gets one, if there is one."""
    assert [p.text for p in load_prompts(replace(config, limit=2, max_chars=4))] == ["x", "xxx"]


def test_a_filter_that_leaves_nothing_is_an_error(
    config: PromptsConfig, tokenizer: Callable[[], Any]
) -> None:
    """A run over nothing would look like a success."""
    with pytest.raises(InputError, match="all prompts in it are left out") as caught:
        load_prompts(replace(config, min_tokens=100), tokenizer)
    assert caught.value.where == config.source


def test_bounds_that_exclude_everything_are_refused_before_anything_is_read() -> None:
    """It is a matter of two settings, whatever the file holds."""
    with pytest.raises(ConfigError, match="at least 3 and at most 2"):
        load_prompts(PromptsConfig(source="missing.jsonl", min_tokens=3, max_tokens=2), nobody)


def test_a_missing_file_is_found_before_the_tokenizer_is_loaded() -> None:
    """Typing errors are answered at once."""
    with pytest.raises(InputError, match="no such file"):
        load_prompts(PromptsConfig(source="missing.jsonl", max_tokens=2), nobody)


def test_messages_without_a_template_cannot_be_counted(
    config: PromptsConfig, tokenizer: Callable[[], Any]
) -> None:
    """The same words as from the engine, before it is started."""
    loaded = tokenizer()
    loaded.chat_template = None
    with pytest.raises(InputError, match="has no chat template"):
        load_prompts(replace(config, chat=True, max_tokens=9), lambda: loaded)
