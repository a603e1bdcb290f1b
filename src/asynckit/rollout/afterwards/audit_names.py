"""Whether a group's id is what its prompt, its place in the run, the seed and the settings hash to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from asynckit.rollout.group import group_seed
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.record import group_id


@dataclass(frozen=True)
class Naming:
    """What a run's names are made of, beside the prompts.

    Attributes:
        seed: of the run.
        identity: digest of the settings that determine what it produces.
    """

    seed: int
    identity: str


def why_other_group(
    found: str, index: int, messages: list[dict[str, str]], about: dict[str, Any], naming: Naming
) -> str:
    """Why ``found`` is not the id of this group, or its seed not the group's; empty where both are right.

    Args:
        found: the recorded id.
        index: place of the group in the run, from 0.
        messages: of one of its records: the prompt and whatever followed.
        about: ``ground_truth``, ``data_source`` and ``sampling`` of that record, as values.
        naming: the rest.
    """
    for text, conversation in _possible_prompts(messages):
        prompt = Prompt(index, text, conversation, about["ground_truth"], about["data_source"], {}, "")
        if group_id(prompt, naming.seed, naming.identity) == found:
            expected = group_seed(prompt, naming.seed)
            given = (about["sampling"] or {}).get("seed", expected)
            return "" if given == expected else f"its seed is {given}, and its prompt makes it {expected}"
    return f"the id is not that of its prompt as number {index} of this run with these settings"


def _possible_prompts(
    messages: list[dict[str, str]],
) -> Iterator[tuple[str | None, tuple[dict[str, str], ...] | None]]:
    """The prompts that may have begun a conversation, the longest first, as text and as messages.

    A record has the prompt's messages with the response after them, and a text prompt as one user message.
    """
    for end in range(len(messages), 0, -1):
        if messages[end - 1]["role"] == "assistant":
            continue  # no prompt ends with the assistant's turn
        yield None, tuple(messages[:end])
        if end == 1 and messages[0]["role"] == "user":
            yield messages[0]["content"], None
