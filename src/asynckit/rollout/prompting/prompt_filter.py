"""Which prompts are too short or too long, and what is said about it."""

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from asynckit.errors import ConfigError
from asynckit.rollout.config import PromptsConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from asynckit.rollout.prompting.prompts import Prompt


class LengthFilter:
    """The bounds ``prompts.min_tokens``, ``max_tokens`` and ``max_chars``.

    Args:
        config: with the bounds.
        tokenizer: loads the model's, when the first prompt is there to be counted; needed only for a bound on
            tokens.

    Raises:
        ConfigError: no prompt can be within the bounds.
    """

    def __init__(self, config: PromptsConfig, tokenizer: "Callable[[], Any] | None") -> None:
        self._least = config.min_tokens
        self._most = config.max_tokens
        self._most_characters = config.max_chars
        self._tokenizer = tokenizer and cache(tokenizer)
        if self._least and self._most and self._least > self._most:
            raise ConfigError(
                f"no prompt has at least {self._least} and at most {self._most} tokens",
                where="prompts.min_tokens",
                mend="set it to no more than prompts.max_tokens",
            )

    def passing(self, prompts: "Iterable[Prompt]", tally: Counter[str]) -> "Iterator[Prompt]":
        """The prompts within the bounds; ``tally`` counts what :meth:`problem` says of all.

        Raises:
            AsynckitError: as :meth:`problem`.
        """
        for prompt in prompts:
            problem = self.problem(prompt)
            tally[problem] += 1
            if not problem:
                yield prompt

    def problem(self, prompt: "Prompt") -> str:
        """Why the prompt is to be left out, in words that follow "with"; empty when it stays.

        Raises:
            InputError: the chat template refuses its messages, or there is none.
            AsynckitError: the tokenizer can't be had.
        """
        if self._most_characters and characters_in(prompt) > self._most_characters:
            return f"more than {self._most_characters} characters"
        if not (self._least or self._most):
            return ""
        tokens = self._tokens_in(prompt)
        if self._least and tokens < self._least:
            return f"fewer than {self._least} tokens"
        return f"more than {self._most} tokens" if self._most and tokens > self._most else ""

    def _tokens_in(self, prompt: "Prompt") -> int:
        from asynckit.rollout.prompting.encoding import encode_prompt, require_chat_template

        assert self._tokenizer, "somebody has to count"
        if prompt.messages is not None:
            require_chat_template(self._tokenizer(), "the model")
        return len(encode_prompt(self._tokenizer(), prompt))


def has_bounds(config: PromptsConfig) -> bool:
    """Whether any length is bounded."""
    return any((config.min_tokens, config.max_tokens, config.max_chars))


def characters_in(prompt: "Prompt") -> int:
    """Characters of the text, or of all messages together."""
    return sum(len(message["content"]) for message in prompt.chat())


def report(tally: Counter[str]) -> str:
    """What was left out, from the counts of :meth:`LengthFilter.problem`'s answers."""
    reasons = [f"{count} with {problem}" for problem, count in sorted(tally.items()) if problem]
    out = tally.total() - tally[""]
    return ", ".join([f"{out} of {tally.total()} prompts left out for their length", *reasons])
