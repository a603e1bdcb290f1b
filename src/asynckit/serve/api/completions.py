"""``POST /v1/completions``."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from asynckit.serve.api.costs import off_loop
from asynckit.serve.api.errors import ApiError, JsonResponse
from asynckit.serve.api.event_stream import DONE, Chunks, streamed
from asynckit.serve.api.generation import (
    Asked,
    Sample,
    begin,
    check_samples,
    collect,
    response_room,
    text_ids,
    texts_of,
    tokens_in,
    usage_of,
)
from asynckit.serve.api.logprobs import completion_logprobs, prompt_logprobs
from asynckit.serve.api.schemas.completion import CompletionRequest
from asynckit.serve.api.schemas.sampling import grammar_field, sampling_of
from asynckit.serve.api.service import Service, note
from asynckit.serve.messages import Text, TokenText
from asynckit.serve.preparation.jobs import Decode
from asynckit.serve.streams import Piece, Stream

_DEFAULT_TOKENS = 16  # OpenAI's
Prompts = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Prompt:
    """A prompt, with what ``echo`` needs of it: its text, and that of its first token, which has no score."""

    ids: tuple[int, ...]
    text: str = ""
    first: str = ""


async def complete(service: Service, body: CompletionRequest, http: HttpRequest) -> Response:
    """Answer a request for completions.

    Raises:
        ApiError: it can't be answered.
    """
    n = body.n or 1
    _check(body, n)
    check_samples(service, len(_listed(body)), n)
    prompts = await _prompts(service, body)
    prompt_only = body.max_tokens == 0
    wanted = _DEFAULT_TOKENS if body.max_tokens is None else max(1, body.max_tokens)
    ids = tuple(prompt.ids for prompt in prompts)
    scored = body.logprobs if body.echo and body.logprobs is not None else body.prompt_logprobs
    sampling = sampling_of(
        body,
        response_room(service, ids, wanted, "prompt"),
        top_logprobs=body.logprobs or 0,
        prompt_logprobs=scored,
    )
    asked = Asked(
        prompts=ids,
        sampling=sampling,
        n=n,
        adapter=service.adapter(body.model),
        prompt_field="prompt",
        grammar_field=grammar_field(body),
        shown_characters=sum(len(prompt.text) for prompt in prompts) if body.echo else 0,
        shows_ids=bool(body.return_token_ids),
        skip_special_tokens=body.skip_special_tokens is not False,
        wants_tokens=body.logprobs is not None or scored is not None,
    )
    stream = await begin(service, http, asked)
    writer = _Writer(body, http, prompts, n, prompt_only, f"cmpl-{stream.id}")
    if not body.stream:
        with stream:
            samples = await collect(stream, n)
            return await off_loop(tokens_in(samples), lambda: JsonResponse(writer.answer(samples)))
    return await streamed(stream, lambda pieces: writer.events(stream, pieces), writer.end)


def _check(body: CompletionRequest, n: int) -> None:
    if body.best_of is not None and body.best_of != n:
        raise ApiError(400, "best_of must equal n: all samples are returned", param="best_of")
    if body.max_tokens == 0 and not body.echo:
        raise ApiError(400, "max_tokens=0 needs echo: there would be nothing to return", param="max_tokens")
    if not body.prompt:
        raise ApiError(400, "the prompt is empty", param="prompt")
    if body.stream_options and not body.stream:
        raise ApiError(400, "stream_options needs stream", param="stream_options")


def _listed(body: CompletionRequest) -> Sequence[Any]:
    """The prompts one by one, as they are."""
    many = isinstance(body.prompt, list) and not isinstance(body.prompt[0], int)
    return body.prompt if many else [body.prompt]


async def _prompts(service: Service, body: CompletionRequest) -> list[_Prompt]:
    listed = _listed(body)
    if isinstance(listed[0], str):
        add = body.add_special_tokens is not False
        ids = await text_ids(service, listed, add_special_tokens=add, param="prompt")
        texts: Sequence[str] = listed
    else:
        ids = tuple(map(tuple, listed))
        texts = await _decoded(service, body, ids)
    if not all(ids):
        raise ApiError(400, "the prompt is empty", param="prompt")
    firsts = await _firsts(service, body, ids)
    return [_Prompt(*each) for each in zip(ids, texts, firsts, strict=True)]


async def _decoded(service: Service, body: CompletionRequest, ids: Prompts) -> Sequence[str]:
    if not body.echo:
        return [""] * len(ids)
    _check_ids(service, ids)
    skip = body.skip_special_tokens is not False
    return (await service.preparers.prepare(Decode(ids, skip_special_tokens=skip))).texts


async def _firsts(service: Service, body: CompletionRequest, ids: Prompts) -> Sequence[str]:
    if not (body.echo and body.logprobs is not None):
        return [""] * len(ids)
    firsts = tuple(each[:1] for each in ids)
    return (await service.preparers.prepare(Decode(firsts, each=True))).texts


def _check_ids(service: Service, prompts: Prompts) -> None:
    vocabulary = service.loaded_facts().vocabulary
    for ids in prompts:
        if ids and max(ids) >= vocabulary:
            message = f"the prompt: token id {max(ids)} is outside the vocabulary of {vocabulary}"
            raise ApiError(400, message, param="prompt", code="invalid_value")


@dataclass
class _Progress:
    """How far the stream of one choice has come."""

    begun: bool = False
    offset: int = 0


@dataclass
class _Writer:
    """Writes the answer to one request, whole or in chunks."""

    body: CompletionRequest
    http: HttpRequest
    prompts: list[_Prompt]
    n: int
    prompt_only: bool
    id: str
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        options = self.body.stream_options
        self._usage = bool(options and options.include_usage)
        self._chunks = Chunks(self.id, "text_completion", self.created, self.body.model, usage=self._usage)
        self._progress: dict[int, _Progress] = {}
        self._completion_tokens = 0
        self._scores: dict[int, tuple[TokenText | None, ...]] = {}
        self._logprobs, self._ids = self.body.logprobs is not None, bool(self.body.return_token_ids)

    def answer(self, samples: list[Sample]) -> dict[str, Any]:
        """The whole answer."""
        for sample in samples:
            self._completion_tokens += 0 if self.prompt_only else len(sample.token_ids)
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.body.model,
            "choices": [self._choice(index, sample) for index, sample in enumerate(samples)],
            "usage": self._count(),
        }

    def _choice(self, index: int, sample: Sample) -> dict[str, Any]:
        prompt = self.prompts[index // self.n]
        shown = Sample(finish="length") if self.prompt_only else sample
        choice = {
            "index": index,
            "text": (prompt.text if self.body.echo else "") + "".join(shown.text),
            "finish_reason": shown.finish,
            "logprobs": self._some_logprobs(prompt, sample.prompt_tokens, shown.tokens, 0),
        }
        if self._ids:
            choice |= {"token_ids": shown.token_ids, "prompt_token_ids": prompt.ids}
        if self.body.prompt_logprobs is not None:
            choice["prompt_logprobs"] = prompt_logprobs(sample.prompt_tokens)
        return choice

    def _some_logprobs(
        self,
        prompt: _Prompt,
        scores: tuple[TokenText | None, ...],
        tokens: Sequence[TokenText],
        offset: int,
    ) -> dict[str, list[Any]] | None:
        """Of the prompt, where it is echoed, and of tokens."""
        if not self._logprobs:
            return None
        shown = [*scores, *tokens] if self.body.echo else tokens
        return completion_logprobs(shown, offset, prompt.first)

    def _count(self) -> dict[str, int]:
        note(self.http, completion_tokens=self._completion_tokens)
        return usage_of(sum(len(prompt.ids) for prompt in self.prompts), self._completion_tokens)

    def events(self, stream: Stream, pieces: list[Piece]) -> bytes:
        """The events that pieces make, in one."""
        events = []
        for text in texts_of(pieces):
            place = stream.places[text.id]
            index = place * self.n + text.sample
            if text.prompt_tokens:
                self._scores[place] = text.prompt_tokens
            progress = self._progress.setdefault(index, _Progress())
            first = not progress.begun
            shown = self._shown(text, self.prompts[place].text if first and self.body.echo else "")
            if shown.text or shown.finish or ((self._ids or self._logprobs) and shown.ids):
                progress.begun = True
                events.append(self._chunks.chunk(self._delta(index, place, shown, progress, first=first)))
        return b"".join(events)

    def _shown(self, text: Text, before: str) -> "_Shown":
        if self.prompt_only:
            return _Shown(before, (), (), "length" if text.finish else None)
        self._completion_tokens += len(text.token_ids)
        return _Shown(before + text.text, text.tokens, text.token_ids, text.finish)

    def _delta(
        self, index: int, place: int, shown: "_Shown", progress: _Progress, *, first: bool
    ) -> dict[str, Any]:
        prompt = self.prompts[place]
        scores = self._scores.get(place, ()) if first else ()
        logprobs = self._some_logprobs(prompt, scores, shown.tokens, progress.offset)
        if logprobs:
            progress.offset += sum(map(len, logprobs["tokens"]))
        choice: dict[str, Any] = {
            "index": index,
            "text": shown.text,
            "finish_reason": shown.finish,
            "logprobs": logprobs,
        }
        if self._ids:
            choice["token_ids"] = shown.ids
        if self._ids and first:
            choice["prompt_token_ids"] = prompt.ids
        if first and self.body.prompt_logprobs is not None:
            choice["prompt_logprobs"] = prompt_logprobs(scores)
        return choice

    def end(self) -> bytes:
        """The last events."""
        usage = self._count()
        return self._chunks.usage(usage) + DONE if self._usage else DONE


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a chunk shows of a sample."""

    text: str
    tokens: Sequence[TokenText]
    ids: Sequence[int]
    finish: str | None
