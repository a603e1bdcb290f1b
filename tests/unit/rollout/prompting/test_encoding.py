"""Encoding: text as it is, messages through the template, and what a template refuses."""

from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tokenizer

from asynckit.errors import InputError
from asynckit.rollout.prompting.encoding import encode_prompt, require_chat_template
from asynckit.rollout.prompting.prompts import Prompt


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    from transformers import AutoTokenizer

    save_tokenizer(tmp_path)
    return AutoTokenizer.from_pretrained(tmp_path)


def prompt(text: str | None, *messages: dict[str, str]) -> Prompt:
    return Prompt(0, text, messages or None, None, "", {}, "train.jsonl:3")


def test_text_is_encoded_as_it_is_and_messages_by_the_template(tokenizer: Any) -> None:
    """What a template adds around a message is part of the prompt."""
    text = encode_prompt(tokenizer, prompt("2 + 3"))
    chat = encode_prompt(tokenizer, prompt(None, {"role": "user", "content": "2 + 3"}))
    assert tokenizer.decode(text) == "2 + 3"
    assert tokenizer.decode(chat) == "<|user|>2 + 3<|end|><|assistant|>"


def test_messages_that_the_template_refuses_are_an_error_at_their_place(tokenizer: Any) -> None:
    """Some templates insist on turns that alternate, for instance."""
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InputError, match="roles must alternate") as caught:
        encode_prompt(tokenizer, prompt(None, {"role": "user", "content": "hi"}))
    assert caught.value.where == "train.jsonl:3"


def test_messages_need_a_template(tokenizer: Any) -> None:
    """A base model has none."""
    require_chat_template(tokenizer, "tiny")
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="tiny has no chat template"):
        require_chat_template(tokenizer, "tiny")
