"""What a model worker does with the router's messages: everything but sockets and threads."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from asynckit.engine.protocol import InferenceEngine
from asynckit.engine.request import Likeliest, Request, TokenEvent, TokenScore
from asynckit.errors import AsynckitError, InputError, NoRoom, WorkFailed
from asynckit.nvtx import Ranges, no_range
from asynckit.serve.messages import (
    Adapter,
    Embed,
    EngineCall,
    EngineState,
    FromWorker,
    LoadAdapter,
    Problem,
    Reset,
    Step,
    Stepped,
    Token,
    ToWorker,
    UnloadAdapter,
    UpdateWeights,
    Vectors,
    WasReset,
    encode,
)
from asynckit.serve.smaller import TOO_LARGE

_CODES = {LoadAdapter: "adapter", UnloadAdapter: "adapter", UpdateWeights: "weights", Embed: "invalid"}

_logger = logging.getLogger(__name__)


class EngineSteps:
    """Answers one message after the other with an engine that nobody else touches.

    Args:
        engine: loaded.
        adapters: that it was loaded with, by name.
        lora: whether others may be loaded.
        alone: whether this is the whole engine and not one rank of several.
        ranges: opens a named range of a profile.
    """

    def __init__(
        self,
        engine: InferenceEngine,
        adapters: dict[str, Path],
        *,
        lora: bool = True,
        alone: bool = True,
        ranges: Ranges = no_range,
    ) -> None:
        self._engine = engine
        self._adapters = {name: str(folder) for name, folder in adapters.items()}
        self._lora = lora
        self._alone = alone
        self._ranges = ranges
        self._weights = ""
        self._fresh = True
        self._open: dict[str, int] = {}  # samples that have not ended

    def answer(self, message: ToWorker) -> FromWorker:
        """Do what a message says; an error out of the engine's step is raised as it is."""
        return self._reset(message) if isinstance(message, Reset) else self._step(message)

    def lighten(self, stepped: Stepped, excess: int) -> Stepped:
        """The same step, at least ``excess`` bytes less; whose answers are the largest hear so."""
        heavy = _heaviest(stepped, excess)
        for token in stepped.tokens:
            if token.prompt_logprobs and token.id in heavy:
                self._engine.abort(token.id)
        lost = [id_ for id_ in stepped.vectors if id_ in heavy]
        return msgspec.structs.replace(
            stepped,
            tokens=tuple(
                [_without_scores(token) if token.id in heavy else token for token in stepped.tokens]
            ),
            problems=(*stepped.problems, *(Problem(id_, TOO_LARGE, "too_long") for id_ in lost)),
            done=tuple(id_ for id_ in stepped.done if id_ not in lost),
            vectors={id_: made for id_, made in stepped.vectors.items() if id_ not in lost},
            state=msgspec.structs.replace(stepped.state, has_work=self._engine.has_work()),
        )

    def _reset(self, reset: Reset) -> WasReset:
        for id_ in self._open:
            self._engine.abort(id_)
        self._open.clear()
        while self._engine.has_work():
            self._engine.step()  # there are only ends left to report
        adapters = tuple(Adapter(name, folder) for name, folder in sorted(self._adapters.items()))
        fresh, self._fresh = self._fresh, False
        return WasReset(reset.number, adapters, self._engine.version, self._weights, fresh)

    def _step(self, step: Step) -> Stepped:
        problems: list[Problem] = []
        done: list[str] = []
        vectors: dict[str, Vectors] = {}
        for id_ in step.aborts:
            self._engine.abort(id_)
        for call in step.calls:
            with self._reported(call.id, _CODES[type(call)], problems):
                if made := self._carry_out(call):
                    vectors[call.id] = made
                done.append(call.id)
        with self._ranges("init_batch"):
            for request in step.requests:
                self._add(request, problems)
            self._prefetch(step.prefetch)
        began = time.monotonic()
        with self._ranges("step"):
            events = self._engine.step() if self._engine.has_work() else []
        seconds = time.monotonic() - began
        tokens = tuple([self._token(event) for event in events])
        state = self._state(seconds)
        return Stepped(step.number, tokens, tuple(problems), tuple(done), vectors, state)

    def _add(self, request: Request, problems: list[Problem]) -> None:
        unknown = request.adapter is not None and request.adapter not in self._adapters
        with self._reported(request.id, "model_not_found" if unknown else "invalid", problems):
            self._engine.add(request)
            self._open[request.id] = request.n

    def _carry_out(self, call: EngineCall) -> Vectors | None:
        match call:
            case LoadAdapter(_, _, name, folder):
                if not self._lora:
                    raise InputError("adapters are off", where="serve.lora")
                self._engine.adapters.register(name, Path(folder))
                self._adapters[name] = folder
            case UnloadAdapter(_, _, name):
                self._engine.adapters.unregister(name)
                self._adapters.pop(name, None)
            case UpdateWeights(_, _, version, folder, on_update):
                if (version, folder) != (self._engine.version, self._weights):  # else it is said again
                    self._engine.update_weights(version, Path(folder), on_update)
                    self._weights = folder
            case Embed(_, _, prompts_ids):
                if not self._engine.embeds:
                    raise _Unsupported("this engine makes no embeddings")
                return tuple(tuple(vector) for vector in self._engine.embed(prompts_ids))
        return None

    def _prefetch(self, names: tuple[str, ...]) -> None:
        for name in names:
            if name in self._adapters:
                self._engine.adapters.prefetch(name)

    def _token(self, event: TokenEvent) -> Token:
        if event.finish is not None:
            self._ended(event.request_id)
        scores = event.prompt_logprobs
        return Token(
            event.request_id,
            event.sample_index,
            event.token_id,
            event.logprob,
            event.version,
            event.finish,
            event.error,
            event.top_logprobs,
            tuple([None if each is None else _score(each) for each in scores]) if scores else (),
        )

    def _ended(self, id_: str) -> None:
        left = self._open.get(id_, 1) - 1
        if left:
            self._open[id_] = left
        else:
            self._open.pop(id_, None)

    @contextmanager
    def _reported(self, id_: str, code: str, problems: list[Problem]) -> Iterator[None]:
        """Make what goes wrong inside a problem of this request or call, and of nobody else."""
        try:
            yield
        except NoRoom as error:
            problems.append(Problem(id_, _sentence(error), "too_long"))
        except _Unsupported as error:
            problems.append(Problem(id_, _sentence(error), "unsupported"))
        except AsynckitError as error:
            if isinstance(error, WorkFailed) and not self._alone:
                raise  # the other ranks may have come further: only a new start makes them one engine again
            located = code in ("adapter", "weights")  # which file it is; a request's place is itself
            problems.append(Problem(id_, str(error) if located else _sentence(error), code))
        except Exception as error:
            # A bug that one request or call brings out must not end the others: it is logged, and they go on.
            _logger.exception("%r failed", id_)
            problems.append(Problem(id_, f"{type(error).__name__}: {error}".splitlines()[0], "internal"))

    def _state(self, seconds: float) -> EngineState:
        statistics = self._engine.statistics()
        return EngineState(
            running=statistics.running,
            waiting=statistics.waiting,
            kv_usage=statistics.kv_usage,
            prefilled_tokens=statistics.prefilled_tokens,
            prefix_query_tokens=statistics.prefix_query_tokens,
            prefix_hit_tokens=statistics.prefix_hit_tokens,
            preemptions=statistics.preemptions,
            has_work=self._engine.has_work(),
            version=self._engine.version,
            step_seconds=seconds,
        )


def _score(score: TokenScore) -> tuple[int, float, Likeliest]:
    return score.token_id, score.logprob, score.top_logprobs


def _heaviest(stepped: Stepped, excess: int) -> set[str]:
    """Ids whose prompts' scores and vectors together take at least ``excess`` bytes; as few as that takes."""
    sizes: Counter[str] = Counter()
    for token in stepped.tokens:
        if token.prompt_logprobs:
            sizes[token.id] += len(encode(token))
    for id_, vectors in stepped.vectors.items():
        sizes[id_] += 9 * sum(map(len, vectors))
    heavy: set[str] = set()
    for id_, size in sizes.most_common():
        if excess <= 0:
            break
        heavy.add(id_)
        excess -= size
    return heavy


def _without_scores(token: Token) -> Token:
    if not token.prompt_logprobs:
        return token
    return msgspec.structs.replace(
        token, token_id=None, finish="error", error=TOO_LARGE, top_logprobs=(), prompt_logprobs=()
    )


class _Unsupported(InputError):
    """The engine can't do such a thing."""


def _sentence(error: AsynckitError) -> str:
    return f"{error.message} ({error.mend})" if error.mend else error.message
