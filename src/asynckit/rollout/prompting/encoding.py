"""Prompts to token ids: the one way, for the engine and for whoever counts tokens before it."""

from typing import Any

from jinja2 import TemplateError

from asynckit.errors import InputError
from asynckit.rollout.prompting.prompts import Prompt

REFUSALS = (TemplateError, TypeError, ValueError, KeyError)  # what templates raise at what they can't lay out


def require_chat_template(tokenizer: Any, model: str) -> None:
    """Refuse chat messages for a tokenizer of transformers that cannot lay them out.

    Raises:
        InputError: it has no chat template.
    """
    if not tokenizer.chat_template:
        raise InputError(
            f"the prompts are chat messages, but {model} has no chat template",
            mend="use prompts.chat=false, or a tokenizer with a template (model.tokenizer=…)",
        )


def encode_prompt(tokenizer: Any, prompt: Prompt) -> tuple[int, ...]:
    """The token ids that the engine gets: text as it is, messages through the chat template.

    Args:
        tokenizer: of transformers.
        prompt: the prompt.

    Raises:
        InputError: the chat template refuses the messages; ``where`` is the prompt's.
    """
    if prompt.messages is None:
        return tuple(tokenizer(prompt.text)["input_ids"])
    try:
        encoded = tokenizer.apply_chat_template(prompt.chat(), add_generation_prompt=True, return_dict=True)
    except REFUSALS as error:
        raise InputError(
            f"the chat template refuses the messages: {error}",
            where=prompt.where,
            mend="order the roles as the model's template asks, or use prompts.chat=false",
        ) from error
    return tuple(encoded["input_ids"])
