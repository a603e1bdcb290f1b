"""Tokens of one step to the text of one step, for all requests at once, without I/O.

Every sample keeps a short window of its last tokens (:class:`GrowingText`). A step appends the new tokens,
decodes all windows in one call, and what each has gained is the new text; what may still change, or may be
the beginning of a stop string, waits. The pieces of a sample add up to exactly what decoding all its tokens
gives, up to the stop string that ended it. What a token costs does not grow with what came before it.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from asynckit.engine.request import Likeliest
from asynckit.engine.text import BeforeStop
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.serve.growing_text import GrowingText
from asynckit.serve.messages import Begin, Text, Texts, Timing, Token, Tokens, TokenText

_Score = tuple[int, float, Likeliest]


@dataclass(eq=False, slots=True)
class _Sample:
    text: GrowingText
    stop: BeforeStop | None


@dataclass(eq=False, slots=True)
class _Request:
    begin: Begin
    samples: dict[int, _Sample]
    prompt: tuple[TokenText | None, ...] = ()
    seconds: float = 0.0


@dataclass(eq=False, slots=True)
class _New:
    """A token with the request and the sample that it belongs to."""

    token: Token
    request: _Request
    sample: _Sample


@dataclass
class TextStatistics:
    """Requests that are open; tokens that became text; tokens of no open sample, which were dropped."""

    open: int = 0
    tokens: int = 0
    dropped: int = 0


@dataclass(eq=False)
class OpenTexts:
    """The texts of all requests that have begun and not ended.

    Args:
        tokenizer: of the model.
        clock: seconds, for what the texts of a request took.
    """

    tokenizer: LightTokenizer
    clock: Callable[[], float] = time.perf_counter
    statistics: TextStatistics = field(default_factory=TextStatistics)
    _requests: dict[str, _Request] = field(default_factory=dict)

    def begin(self, begin: Begin) -> None:
        """Expect tokens of a request."""
        samples = {index: self._new_sample(begin) for index in range(begin.n)}
        self._requests[begin.id] = _Request(begin, samples)
        self._count()

    def end(self, request_id: str) -> None:
        """Forget a request, if it is there."""
        self._requests.pop(request_id, None)
        self._count()

    def end_home(self, home: str) -> None:
        """Forget the requests of an HTTP server process."""
        self._requests = {id_: r for id_, r in self._requests.items() if r.begin.home != home}
        self._count()

    def end_router(self, generation: int) -> None:
        """Forget the requests of a router that is gone, and of those before it; not its successor's."""
        self._requests = {id_: r for id_, r in self._requests.items() if r.begin.router > generation}
        self._count()

    def step(self, message: Tokens) -> dict[str, Texts]:
        """The new text of what a step sampled, by the HTTP server that it is for."""
        began = self.clock()
        texts: defaultdict[str, list[Text]] = defaultdict(list)
        for tokens in _once_each(message.tokens):
            news = list(self._find(tokens))
            self._decode(news)
            each = (self.clock() - began) / max(1, len(message.tokens))
            for new in news:
                new.request.seconds += each
                texts[new.request.begin.home].append(self._text(new, message.timings))
        self._count()
        return {home: Texts(tuple(some)) for home, some in texts.items()}

    def _new_sample(self, begin: Begin) -> _Sample:
        text = GrowingText(self.tokenizer, skip_special_tokens=begin.skip_special_tokens)
        stop = tuple(filter(None, begin.stop))
        return _Sample(text, BeforeStop(stop) if stop else None)

    def _count(self) -> None:
        self.statistics.open = len(self._requests)

    def _find(self, tokens: Iterable[Token]) -> Iterator[_New]:
        for token in tokens:
            request = self._requests.get(token.id)
            sample = request.samples.get(token.sample) if request else None
            if request and sample:
                self.statistics.tokens += token.token_id is not None
                yield _New(token, request, sample)
            else:
                self.statistics.dropped += 1

    def _decode(self, news: Sequence[_New]) -> None:
        """Let every sample know its new text: two calls of the tokenizer, whatever the number of samples."""
        changed = [new for new in news if _changes(new)]
        texts = self.tokenizer.decode_windows([new.sample.text.window.tokens for new in changed])
        for new, text in zip(changed, texts, strict=True):
            new.sample.text.read(text, last=new.token.finish is not None)
        windows = [new.sample.text.window for new in changed if new.token.finish is None]
        long = [(window, context) for window in windows if (context := window.context())]
        if long:
            texts = self.tokenizer.decode_windows([context for _, context in long])
            for (window, context), text in zip(long, texts, strict=True):
                window.shorten(context, text)

    def _text(self, new: _New, timings: dict[str, Timing]) -> Text:
        token, request = new.token, new.request
        id_ = token.token_id
        scored = (
            (self._scored(id_, token.logprob, token.top_logprobs),)
            if request.begin.wants_tokens and id_ is not None
            else ()
        )
        text = Text(
            token.id,
            token.sample,
            _new_text(new),
            token_ids=() if id_ is None else (id_,),
            tokens=scored,
            prompt_tokens=self._prompt(request, token.prompt_logprobs) if token.prompt_logprobs else (),
            version=token.version,
            finish=token.finish,
            error=token.error,
        )
        return self._ended(text, request, timings) if token.finish else text

    def _ended(self, text: Text, request: _Request, timings: dict[str, Timing]) -> Text:
        """Let go of a sample, and with the last one of its request; that one tells the time it took."""
        del request.samples[text.sample]
        if request.samples:
            return text
        del self._requests[text.id]
        timing = timings.get(text.id)
        if timing is None:
            return text
        return msgspec.structs.replace(
            text, timing=msgspec.structs.replace(timing, detokenized=request.seconds)
        )

    def _prompt(self, request: _Request, scores: Sequence[_Score | None]) -> tuple[TokenText | None, ...]:
        """The prompt's tokens: the samples of a request share them."""
        request.prompt = request.prompt or tuple(score and self._scored(*score) for score in scores)
        return request.prompt

    def _scored(self, token_id: int, logprob: float, top: Likeliest) -> TokenText:
        text, raw = self.tokenizer.token_text, self.tokenizer.token_bytes
        likeliest = tuple((id_, text(id_), raw(id_), likely) for id_, likely in top)
        return TokenText(token_id, text(token_id), raw(token_id), logprob, likeliest)


def _changes(new: _New) -> bool:
    """Give a sample its token; returns whether its window is to be decoded."""
    text = new.sample.text
    changed = new.token.token_id is not None and text.add(new.token.token_id)
    return text.end() if new.token.finish else changed


def _new_text(new: _New) -> str:
    finish, stop = new.token.finish, new.sample.stop
    text = new.sample.text.take(last=finish is not None)
    if stop is None:
        return text
    return stop.finish(text, stopped=finish == "stop") if finish else stop.push(text)


def _once_each(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Parts in which no sample occurs twice, in order: nearly always one."""
    part: list[Token] = []
    seen: set[tuple[str, int]] = set()
    for token in tokens:
        sample = token.id, token.sample
        if sample in seen:
            yield part
            part, seen = [], set()
        part.append(token)
        seen.add(sample)
    yield part
