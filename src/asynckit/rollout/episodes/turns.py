"""Token ids between two turns of the assistant: what the environment said, and the template around it.

What was sampled stays as it was sampled; nothing of it is decoded and encoded again. The ids in between are
the end of a short conversation that has a mark where the assistant's text would be, as in TRL (pull request
5242): the chat template lays it out, and what stands behind the mark is encoded. That text begins with
what closes the assistant's turn. Where the model has sampled the closing token itself, the ids begin after
it; where a stop string or another token ended the turn, they include it.
"""

import hashlib
from typing import Any

from asynckit.engine.completion import Completion
from asynckit.engine.request import Finish
from asynckit.engine.text import cut_at_stop
from asynckit.errors import InputError
from asynckit.rollout.episodes.environments import ROLES, Reply
from asynckit.rollout.prompting.encoding import REFUSALS

_MARK, _TRIAL = "asynckit-assistant", "asynckit-reply"


class TurnTemplate:
    """A tokenizer's chat template, as far as it concerns what comes between two turns of the assistant.

    Args:
        tokenizer: with a chat template.

    Raises:
        InputError: the template knows none of the roles that an environment can have.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._closing = {role: self._closing_token(tail) for role in ROLES if (tail := self._trial(role))}
        if not self._closing:
            raise InputError(
                f"the chat template has no place for a message of the role {' or '.join(ROLES)} after the "
                "assistant's, so there can be no environment",
                where="rollout.environment",
                mend="use a tokenizer with another template (model.tokenizer=…)",
            )

    def lay_out(self, reply: Reply, last: int) -> tuple[dict[str, str], list[int]]:
        """The message that a reply becomes, and the ids from the assistant's turn to its next one.

        Args:
            reply: what the environment says. Without a role it gets the first of ``ROLES`` that the template
                knows.
            last: the last token of the assistant's turn.

        Raises:
            InputError: the template doesn't know the role, or refuses the message.
        """
        message = {"role": reply.role or next(iter(self._closing)), "content": reply.content}
        if message["role"] not in self._closing:
            raise InputError(
                f"the chat template has no role {message['role']!r}", mend="let step return text alone"
            )
        try:
            ids = self._encode(self._tail(message))
        except REFUSALS as error:
            raise InputError(f"the chat template refuses what the environment said: {error}") from error
        closing = self._closing[message["role"]]
        return message, ids[ids.index(closing) + 1 :] if last == closing else ids

    def _tail(self, message: dict[str, str]) -> str:
        """What the template puts after the assistant's text, up to where its next turn begins."""
        conversation = [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": _MARK},
            message,
        ]
        text: str = self._tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True
        )
        return text.partition(_MARK)[2]

    def _trial(self, role: str) -> str:
        """What stands between the assistant's text and a message of this role; empty for an unknown role.

        Templates refuse roles that they don't know, or leave out their messages.
        """
        try:
            before, found, _ = self._tail({"role": role, "content": _TRIAL}).partition(_TRIAL)
        except REFUSALS:
            return ""
        return before if found else ""

    def _closing_token(self, before: str) -> int | None:
        """The first token that is one whatever stands around it: it ends the assistant's turn."""
        whole = {*self._tokenizer.added_tokens_decoder, *self._tokenizer.all_special_ids}
        return next((token for token in self._encode(before) if token in whole), None)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def text_of(tokenizer: Any, completion: Completion, stop: tuple[str, ...]) -> str:
    """What a completion says, without special tokens and without the stop string that ended it."""
    text: str = tokenizer.decode(completion.token_ids, skip_special_tokens=True)
    return cut_at_stop(text, stop) if completion.finish is Finish.STOP else text


def turn_seed(group_seed: int, index: int, turn: int) -> int:
    """The seed of one sample's later turn, or of its environment (turn 0): the same at every try.

    Later turns are requests of one sample, all with the index 0, so their seeds tell the samples apart.
    """
    return int(hashlib.sha256(f"{group_seed}/{index}/{turn}".encode()).hexdigest()[:15], 16)
