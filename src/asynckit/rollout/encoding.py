"""Prompts to token ids, the same in a run and in its forecast."""

from typing import Any

from asynckit.errors import InputError
from asynckit.rollout.prompts import Prompt


def encode_prompt(tokenizer: Any, prompt: Prompt) -> tuple[int, ...]:
    """The prompt's token ids; chat messages are laid out by the tokenizer's template.

    Raises:
        InputError: the template refuses the messages.
    """
    from jinja2 import TemplateError

    if prompt.messages is None:
        return tuple(tokenizer(prompt.text)["input_ids"])
    try:
        encoded = tokenizer.apply_chat_template(prompt.chat(), add_generation_prompt=True, return_dict=True)
    except (
        TemplateError,
        TypeError,
        ValueError,
        KeyError,
    ) as error:  # templates refuse what they can't lay out
        raise InputError(
            f"the chat template refuses the messages: {error}",
            where=prompt.where,
            mend="order the roles as the model's template asks, or use prompts.chat=false",
        ) from error
    return tuple(encoded["input_ids"])


def require_template(tokenizer: Any, name: str, *, chat: bool) -> None:
    """Refuse chat prompts where the tokenizer has no template for them.

    Raises:
        InputError: it has none.
    """
    if chat and not tokenizer.chat_template:
        raise InputError(
            f"the prompts are chat messages, but {name} has no chat template",
            mend="use prompts.chat=false, or a tokenizer with a template (model.tokenizer=…)",
        )
