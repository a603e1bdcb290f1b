"""What the engine is asked for and what it answers, as plain data.

A :class:`Request` is one prompt with ``n`` samples. Inside the engine each sample is a :class:`Sequence`;
outside, each step yields :class:`TokenEvent` objects. Every sample ends exactly once: one event of it carries
a ``finish``.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import StrEnum

from asynckit.engine.config import SamplingParams
from asynckit.engine.sample_state import SampleState

Likeliest = tuple[tuple[int, float], ...]  # token ids and their logprobs, likeliest first


class Finish(StrEnum):
    """Why a sample ended."""

    STOP = "stop"  # an end-of-text token, a stop token or a stop string
    LENGTH = "length"  # max_tokens or the model's limit was reached
    ABORT = "abort"  # the caller asked for it
    ERROR = "error"  # the engine could not go on; the event's error says why


class OnUpdate(StrEnum):
    """What becomes of running requests when the weights are replaced."""

    KEEP_KV = "keep_kv"  # they go on with the keys and values of the old weights
    RECOMPUTE_KV = "recompute_kv"  # they go on after their tokens have passed through the new weights
    ABORT = "abort"  # they end


@dataclass(frozen=True)
class Request:
    """One prompt and how to sample from it.

    Attributes:
        id: chosen by the caller; unique among the requests that have not ended.
        prompt_ids: token ids of the prompt, at least one.
        sampling: how tokens are chosen and when a sample ends.
        n: how many samples; they share the prompt's prefill.
        priority: lower runs first; equal ones in order of arrival.
        adapter: name of the LoRA adapter to use; None is the model itself.
    """

    id: str
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    n: int = 1
    priority: int = 0
    adapter: str | None = None

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether the prompt's own tokens are scored, so that every row of it needs logits."""
        return self.sampling.prompt_logprobs is not None


@dataclass(frozen=True)
class TokenScore:
    """How likely the model finds one token of the prompt, given what is before it.

    Attributes:
        token_id: the token.
        logprob: as :class:`TokenEvent` defines it.
        top_logprobs: the likeliest tokens at its place.
    """

    token_id: int
    logprob: float
    top_logprobs: Likeliest


@dataclass(frozen=True)
class TokenEvent:
    """What happened to one sample in one step.

    Attributes:
        request_id, sample_index: which sample.
        token_id: the token that was sampled; None when the sample ended without one (abort, error).
        logprob: its log-probability under softmax(logits / temperature), before any top-k, top-p or min-p
            cut; greedy sampling reports it at temperature 1. The logits are the model's: bias, penalties and
            grammars change what is chosen, not this number.
        version: version of the weights that sampled the token.
        finish: set on the last event of a sample, and only there.
        error: one line, set when ``finish`` is ``error``.
        top_logprobs: the likeliest tokens in the place of this one, under the same softmax, as many as
            ``sampling.top_logprobs`` says; the chosen token need not be among them.
        prompt_logprobs: on a sample's first token, where the request wants them: one entry per prompt token,
            None for the first, which has nothing before it.
    """

    request_id: str
    sample_index: int
    token_id: int | None
    logprob: float
    version: int
    finish: Finish | None = None
    error: str = ""
    top_logprobs: Likeliest = ()
    prompt_logprobs: tuple[TokenScore | None, ...] = ()


@dataclass(eq=False)
class Sequence:
    """One sample on its way through the engine.

    ``computed`` counts the tokens whose keys and values are in the cache: they fill ``blocks`` from the
    front. While ``computed < len(tokens) - 1`` the sequence still prefills (its prompt or, after a
    preemption, its own past).

    Attributes:
        cache_salt: what else than tokens decides about keys and values, such as the adapter; blocks are
            reused only between sequences of equal salt.
        adapter: number of the registered adapter that the request names; None without one.
        needs_all_rows: every token must pass through the model (prompt logprobs), so no prefix is reused.
        rank: (priority, arrival), set by the scheduler; lower goes first.
        served: the scheduler's count of chunks when this sequence last got one.
        block_hashes: chain hashes of the full blocks of ``tokens``, as far as they were needed.
        cacheable: whether blocks that fill up may be offered to others; false once the weights changed
            underneath.
        state: what adjusts the next token's logits; None where nothing does.
        prompt_scores: of the prompt's tokens, as far as they were computed.
    """

    request: Request
    sample_index: int
    tokens: list[int]
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    finish: Finish | None = None
    cache_salt: Hashable = None
    adapter: int | None = None
    needs_all_rows: bool = False
    rank: tuple[int, int] = (0, 0)
    served: int = 0
    block_hashes: list[bytes] = field(default_factory=list)
    cacheable: bool = True
    state: SampleState | None = None
    prompt_scores: list[TokenScore | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.needs_all_rows = self.needs_all_rows or self.request.wants_prompt_logprobs

    @property
    def generated(self) -> int:
        """How many tokens this sample has so far, its prompt aside."""
        return len(self.tokens) - len(self.request.prompt_ids)

    @property
    def pending(self) -> int:
        """How many tokens must still pass through the model before the next one can be sampled."""
        return len(self.tokens) - self.computed
