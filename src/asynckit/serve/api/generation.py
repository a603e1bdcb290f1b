"""From a checked HTTP request to its samples: prompts to token ids, requests to the router, text back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from starlette.requests import Request as HttpRequest

from asynckit.engine.config import SamplingParams
from asynckit.engine.request import Request
from asynckit.engine.validate import check_request, check_types
from asynckit.errors import RequestError
from asynckit.serve.api.costs import LogprobCount, check_sent, check_shown, off_loop
from asynckit.serve.api.errors import ApiError
from asynckit.serve.api.service import Service, arrival_of, note, owner_of, too_long
from asynckit.serve.control_messages import Facts
from asynckit.serve.messages import Generate, Text, TokenText
from asynckit.serve.preparation.jobs import Encode
from asynckit.serve.streams import BACKSTOP_SECONDS, Piece, Stream, new_id

_OWN_FAULT = (  # how errors begin that come of what the request asks for
    "the grammar failed",
    "grammar, ",
    "the answer is too large",
)


@dataclass(frozen=True)
class Asked:
    """What an HTTP request asks the engine for.

    Attributes:
        prompts: token ids of each prompt.
        sampling: for all of them.
        n: samples of each.
        adapter: None is the model itself.
        skip_special_tokens: leave them out of the text.
        wants_tokens: have tokens and logprobs with the text.
        prompt_field, grammar_field: where the prompts and the grammar, if there is one, come from.
        shown_characters: of the prompts, in the answer.
        shows_ids: whether the answer has the prompts' ids.
    """

    prompts: tuple[tuple[int, ...], ...]
    sampling: SamplingParams
    n: int
    adapter: str | None
    skip_special_tokens: bool
    wants_tokens: bool
    prompt_field: str
    grammar_field: str
    shown_characters: int = 0
    shows_ids: bool = False


def check_samples(service: Service, prompts: int, n: int) -> None:
    """Refuse more samples than one request may have, before any of them costs anything."""
    most = service.settings.max_samples
    if prompts * n > most:
        message = f"{prompts} prompts with n={n} are {prompts * n} samples; one request may have {most}"
        raise ApiError(400, message, code="too_many_samples", param="n" if n > 1 else "prompt")


def room_for(facts: Facts) -> int:
    """Tokens that a prompt and its response may have together."""
    return min(facts.max_model_len, facts.kv_cache_tokens)


async def text_ids(
    service: Service, texts: Sequence[str], *, add_special_tokens: bool, param: str
) -> tuple[tuple[int, ...], ...]:
    """Token ids of texts; raises ApiError for one that is too long for the model, before it is tokenized."""
    room = room_for(service.loaded_facts())
    longest = room * service.tokenizer.longest_token
    for text in texts:
        if len(text) > longest:
            raise too_long(f"a text of {len(text)} characters does not fit in {room} tokens", param)
    prepared = await service.preparers.prepare(Encode(tuple(texts), add_special_tokens))
    return prepared.ids


def response_room(service: Service, prompts: Sequence[Sequence[int]], wanted: int | None, param: str) -> int:
    """The longest response: what is wanted, or by default all that the context leaves.

    Raises:
        ApiError: prompt and response are more than the model or the cache can hold.
    """
    most, longest = room_for(service.loaded_facts()), max(map(len, prompts))
    if longest >= most:
        message = f"the prompt has {longest} tokens; prompt and response may have {most} together"
        raise too_long(message, param)
    if wanted is not None and longest + wanted > most:
        message = (
            f"the prompt has {longest} tokens, and {wanted} more are asked for; "
            f"prompt and response may have {most} together"
        )
        raise too_long(message, "max_tokens")
    return most - longest if wanted is None else wanted


async def begin(service: Service, http: HttpRequest, asked: Asked) -> Stream:
    """Send a request for samples to the router.

    Raises:
        ApiError: it can't be served.
    """
    facts = service.loaded_facts()
    timeout = service.settings.request_timeout
    _check_cost(asked, service.tokenizer.longest_token)
    size = sum(map(len, asked.prompts)) + len(asked.sampling.allowed_token_ids or ())
    await off_loop(size, lambda: _check_values(asked, facts.vocabulary))
    await service.grammars.check(asked.sampling, asked.grammar_field)
    requests = [Request(new_id(), ids, asked.sampling, asked.n, 0, asked.adapter) for ids in asked.prompts]
    messages = [
        Generate(
            request=request,
            home=service.home,
            owner=owner_of(http),
            arrived=arrival_of(http),
            timeout=timeout,
            skip_special_tokens=asked.skip_special_tokens,
            wants_tokens=asked.wants_tokens,
        )
        for request in requests
    ]
    note(http, id=requests[0].id, prompt_tokens=sum(map(len, asked.prompts)))
    return service.streams.send(messages, timeout + BACKSTOP_SECONDS)


def _check_cost(asked: Asked, longest_token: int) -> None:
    check_sent(
        asked.prompts, asked.sampling, grammar_field=asked.grammar_field, prompt_field=asked.prompt_field
    )
    check_shown(
        sum(map(len, asked.prompts)),
        len(asked.prompts),
        asked.n,
        prompt_logprobs=asked.sampling.prompt_logprobs,
        longest_token=longest_token,
        characters=asked.shown_characters,
        with_ids=asked.shows_ids,
    )


def _check_values(asked: Asked, vocabulary: int) -> None:
    """Check the sampling once, and all prompts as if they were one."""
    ids = tuple(chain.from_iterable(asked.prompts))
    together = Request(new_id(), ids, asked.sampling, asked.n, 0, asked.adapter)
    try:
        check_types(together)
        check_request(together, vocabulary=vocabulary, eos_ids=frozenset())
    except RequestError as error:
        raise ApiError(400, error.message, code="invalid_value") from error


@dataclass
class Sample:
    """One sample, as far as it has come."""

    text: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    tokens: list[TokenText] = field(default_factory=list)
    prompt_tokens: tuple[TokenText | None, ...] = ()
    finish: str = ""

    def add(self, text: Text) -> None:
        """Take a piece in."""
        self.text.append(text.text)
        self.token_ids += text.token_ids
        self.tokens += text.tokens
        self.finish = text.finish or ""


async def collect(stream: Stream, n: int) -> list[Sample]:
    """All samples, of the first prompt first; raises ApiError when one of them fails."""
    samples = [Sample() for _ in range(len(stream.places) * n)]
    logprobs = LogprobCount()
    while not stream.complete:
        for text in texts_of(await stream.take()):
            place = stream.places[text.id]
            logprobs.add(text.tokens)
            samples[place * n + text.sample].add(text)
            if text.prompt_tokens:  # the prompt's scores count for all of its samples
                for sample in samples[place * n : (place + 1) * n]:
                    sample.prompt_tokens = text.prompt_tokens
    return samples


def tokens_in(samples: Sequence[Sample]) -> int:
    """Tokens with logprobs."""
    return sum(len(sample.tokens) + len(sample.prompt_tokens) for sample in samples)


def texts_of(pieces: Sequence[Piece]) -> Iterator[Text]:
    """Text pieces; raises ApiError at one that ends its sample with an error."""
    for piece in pieces:
        assert isinstance(piece, Text)
        if piece.finish == "error":
            own = piece.error.startswith(_OWN_FAULT)
            raise ApiError(400 if own else 500, piece.error, code="generation_failed")
        yield piece


def usage_of(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """OpenAI's count of tokens."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
