"""What became of one sample between its prompt and its score: the tokens, and what they say."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from asynckit.engine.completion import Completion
from asynckit.engine.request import Finish


@dataclass
class Episode:
    """One sample, from the end of its prompt on.

    Attributes:
        messages: what was said after the prompt.
        text: the response, for the reward: what the assistant said last.
        response_ids: all tokens after the prompt.
        response_mask: 1 for those that the policy sampled, 0 for others.
        logprobs, versions: one per token of the response; of others than the policy's 0.0, and the version of
            the policy's last token before them.
        turns: how often the assistant spoke.
        finish: what ended it, or the assistant's last turn where there are several.
        cut: why a conversation ends before its environment ends it: ``length`` or ``max_turns``; empty where
            it doesn't, and where ``finish`` says so.
        reward: what the environment gives for it.
        error: why it has no response to score, where it has none.
        start, first_token, end: seconds on the generator's clock.
    """

    messages: list[dict[str, str]] = field(default_factory=list)
    text: str = ""
    response_ids: list[int] = field(default_factory=list)
    response_mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    turns: int = 0
    finish: Finish = Finish.ERROR
    cut: str = ""
    reward: float | None = None
    error: str = ""
    start: float = 0.0
    first_token: float | None = None
    end: float = 0.0

    def say(self, completion: Completion, text: str) -> None:
        """The assistant's turn: tokens that the policy sampled, and their text."""
        assert completion.finish
        self.messages.append({"role": "assistant", "content": text})
        self.text = text
        self.response_ids += completion.token_ids
        self.response_mask += [1] * len(completion.token_ids)
        self.logprobs += completion.logprobs
        self.versions += completion.versions
        self.turns += 1
        self.finish, self.error = completion.finish, completion.error
        self.first_token = completion.first_token if self.first_token is None else self.first_token
        self.end = completion.end

    def hear(self, message: dict[str, str], ids: Sequence[int]) -> None:
        """What the environment said, and the tokens between two turns of the assistant that it takes."""
        self.messages.append(message)
        self.response_ids += ids
        self.response_mask += [0] * len(ids)
        self.logprobs += [0.0] * len(ids)
        self.versions += [self.versions[-1]] * len(ids)

    def fail(self, error: str) -> None:
        """End without a response to score; what was said so far stays."""
        self.finish, self.error = Finish.ERROR, error


def version_spans(versions: Sequence[int]) -> list[tuple[int, int, int]]:
    """Runs of equal versions as ``(start, end, version)``, end exclusive, covering all tokens in order."""
    spans: list[tuple[int, int, int]] = []
    for position, version in enumerate(versions):
        if spans and spans[-1][2] == version:
            spans[-1] = (spans[-1][0], position + 1, version)
        else:
            spans.append((position, position + 1, version))
    return spans
