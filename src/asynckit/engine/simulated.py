"""An engine with a clock instead of a model, for tests, planning and load tests.

It has the interface of :class:`asynckit.engine.engine.Engine` and the real scheduler underneath, so batching,
chunked prefill, the limits of the KV cache and the order of ends are those of the engine. Only the forward
pass is missing: a step takes the seconds that a latency model says, and tokens are drawn from counters. How
long a response is depends on the request's seed, its prompt and the sample's index; which tokens it has, on
the seed, the index and the position. Both are the same in whatever company and order.

Stop token ids end a sample as they do in the engine. Stop strings don't: there is no text here, and the drawn
length stands for every reason a model has to stop. There are no logits either: what shapes them (temperature,
cuts, bias, penalties) is checked and has no effect, and what would have to show in the answer (allowed
tokens, grammars, likeliest tokens, scores of the prompt) is refused. Adapters are registered as in the
engine, but they are only names that keep prefixes apart.
"""

import math

from asynckit.bounds import violations
from asynckit.engine.admission import check_room
from asynckit.engine.blocks import BlockPool
from asynckit.engine.capacity import capacity
from asynckit.engine.clock import Clock, RealClock, VirtualClock
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.counter import uniform
from asynckit.engine.distributions import parse_distribution
from asynckit.engine.latency import Latency
from asynckit.engine.lengths import Lengths, length_shares, parse_lengths
from asynckit.engine.open_requests import OpenRequests
from asynckit.engine.request import Finish, OnUpdate, Request, Sequence, TokenEvent
from asynckit.engine.scheduler import Scheduler, Statistics
from asynckit.engine.simulated_adapters import SimulatedAdapters
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.engine.validate import check_request
from asynckit.errors import ConfigError, RequestError

_LOGPROB_STREAM = 0x6C6F6770726F6273  # keeps the numbers of logprobs apart from those of tokens

_BEYOND_US = ("allowed_token_ids", "json_schema", "regex", "top_logprobs", "prompt_logprobs")


class SimulatedEngine:
    """Continuous batching over nothing.

    Args:
        scheduler: decides who runs.
        latency: how long a step takes.
        lengths: how long a response is, unless the request's own limits end it earlier.
        clock: passes the time of each step. ``clock.now()`` is the time of the simulation.
        vocabulary: token ids are below this.
        eos_id: the token that ends a response.

    Attributes:
        clock, adapters: as above.
        capacity, embeds: as in the engine.
    """

    embeds = False

    def __init__(
        self,
        scheduler: Scheduler,
        latency: Latency,
        lengths: Lengths,
        *,
        clock: Clock,
        vocabulary: int,
        eos_id: int,
    ) -> None:
        self.clock = clock
        self.adapters = SimulatedAdapters()
        self._scheduler = scheduler
        self._latency = latency
        self._draw_length = lengths
        self.capacity = capacity(scheduler, vocabulary)
        self._eos_id = eos_id
        self._lengths: dict[Sequence, int] = {}
        self._open = OpenRequests(scheduler, lambda sequence, _: self._lengths.pop(sequence))
        self._steps = 0
        self._closed = False

    @classmethod
    def load(cls, config: EngineConfig, simulated: SimulatedConfig) -> "SimulatedEngine":
        """Build one from the configuration.

        Without ``config.kv_cache_tokens`` the cache never limits what runs.

        Raises:
            ConfigError: a setting is impossible.
            InputError: the trace of lengths can't be used.
        """
        return cls(
            make_scheduler(config, simulated),
            make_latency(simulated),
            parse_lengths(simulated.response_tokens, where="simulated.response_tokens"),
            clock=VirtualClock() if simulated.clock == "virtual" else RealClock(),
            vocabulary=simulated.vocabulary,
            eos_id=simulated.eos_token_id,
        )

    @property
    def version(self) -> int:
        """Of the weights that there would be; 0 until an update."""
        return self._open.version

    def add(self, request: Request) -> None:
        """Queue a request; its first tokens come from a later step.

        Raises:
            RequestError: the request can't be served as it is. Nothing is queued then.
        """
        self._check(request)
        number = self.adapters.requested(request)
        sequences = [
            Sequence(request, index, list(request.prompt_ids), cache_salt=number)
            for index in range(request.n)
        ]
        shares = length_shares(request)
        for sequence, share in zip(sequences, shares, strict=True):
            self._lengths[sequence] = self._draw_length(len(request.prompt_ids), share)
        self._open.add(sequences)

    def abort(self, request_id: str) -> None:
        """End every sample of a request that has not ended; the next step says so. Unknown ids do nothing."""
        self._open.abort(request_id)

    def update_weights(
        self, version: int, new: object = None, on_update: OnUpdate | str = OnUpdate.KEEP_KV
    ) -> None:
        """Do to the schedule what new weights do in the engine; later tokens carry ``version``.

        Args:
            version: of the new weights; must grow.
            new: the weights, which nothing reads here.
            on_update: what becomes of the requests that run.

        Raises:
            InputError: the version is no integer or doesn't grow, or ``on_update`` is no :class:`OnUpdate`.
        """
        del new
        self._open.weights_changed(version, self._open.check_update(version, on_update))

    def has_work(self) -> bool:
        """Whether a step would do or report anything."""
        return not self._closed and self._open.has_work()

    def statistics(self) -> Statistics:
        """Sequences running and waiting, cache use, tokens prefilled so far."""
        return self._scheduler.statistics()

    def step(self) -> list[TokenEvent]:
        """Let one pass's time go by and return what happened in it.

        One event per sampled token or ended sample, as from the engine.
        """
        events = self._open.take_ended()
        if self._closed:
            return events
        begin = self.clock.now()
        plan = self._scheduler.plan()
        if not plan.chunks:
            return events
        seconds = self._latency.seconds(plan, self._steps)
        self._steps += 1
        self._scheduler.commit(plan)
        for chunk in plan.chunks:
            if chunk.samples:
                events += [self._extend(sequence) for sequence in (chunk.sequence, *chunk.siblings)]
        self.clock.advance(begin + seconds - self.clock.now())
        return events

    def embed(self, prompts_ids: object) -> list[list[float]]:
        """Refused: there is no model.

        Raises:
            RequestError: always.
        """
        del prompts_ids
        raise RequestError("the simulated engine has no embeddings: there is no model", where="embed")

    def close(self) -> None:
        """End a step that waits in another thread and drop what has not ended: abort it first to hear."""
        self._closed = True
        self.clock.close()

    def _extend(self, sequence: Sequence) -> TokenEvent:
        params, index, position = sequence.request.sampling, sequence.sample_index, len(sequence.tokens)
        free_to_end = sequence.generated >= params.min_tokens
        ended = free_to_end and not params.ignore_eos and sequence.generated + 1 >= self._lengths[sequence]
        token = self._eos_id if ended else self._token(params.seed, index, position)
        # An exponential with mean 1: a perplexity of e.
        logprob = math.log1p(-uniform(params.seed ^ _LOGPROB_STREAM, index, position))
        sequence.tokens.append(token)
        sequence.logprobs.append(logprob)
        sequence.versions.append(self.version)
        stopped = ended or (free_to_end and token in params.stop_token_ids)
        finish = Finish.STOP if stopped else None
        if not finish and len(sequence.tokens) >= self._scheduler.longest(sequence):
            finish = Finish.LENGTH
        if finish:
            self._open.end(sequence, finish)
        return TokenEvent(sequence.request.id, index, token, logprob, self.version, finish)

    def _token(self, seed: int, sample_index: int, position: int) -> int:
        return draw_token(
            seed, sample_index, position, vocabulary=self.capacity.vocabulary, eos_id=self._eos_id
        )

    def _check(self, request: Request) -> None:
        self._open.check_new(request)
        where = f"request {request.id!r}"
        if self._closed:
            raise RequestError("the engine is closed", where=where)
        check_request(request, vocabulary=self.capacity.vocabulary, eos_ids=frozenset({self._eos_id}))
        check_room(request, self._scheduler)
        for name in _BEYOND_US:
            if getattr(request.sampling, name) != getattr(SamplingParams, name):
                raise RequestError(f"the simulated engine has no {name}: there is no model", where=where)


def make_scheduler(config: EngineConfig, simulated: SimulatedConfig) -> Scheduler:
    """The scheduler of a simulated engine.

    Raises:
        ConfigError: a setting is impossible.
    """
    _check(config, simulated)
    longest = config.max_model_len or simulated.max_model_len
    return Scheduler(
        BlockPool(_block_count(config, longest), config.block_size),
        max_running=config.max_running,
        max_step_tokens=config.max_step_tokens,
        max_model_len=longest,
        prefill_chunk=config.prefill_chunk,
    )


def make_latency(simulated: SimulatedConfig) -> Latency:
    """How long a simulated engine's steps take.

    Raises:
        ConfigError: ``simulated.step_seconds`` is no distribution.
    """
    return Latency(
        parse_distribution(simulated.step_seconds, where="simulated.step_seconds"),
        simulated.prefill_token_seconds,
        simulated.sequence_seconds,
        simulated.seed,
    )


def draw_token(seed: int, sample_index: int, position: int, *, vocabulary: int, eos_id: int) -> int:
    """The simulated token at a position: any but end-of-text."""
    token = int(uniform(seed, sample_index, position) * (vocabulary - 1))
    return token + (token >= eos_id)


def _check(config: EngineConfig, simulated: SimulatedConfig) -> None:
    for section, settings in (("engine", config), ("simulated", simulated)):
        for name, problem in violations(settings):
            raise ConfigError(f"{name} {problem}", where=f"{section}.{name}")
    if simulated.eos_token_id >= simulated.vocabulary:
        raise ConfigError(
            f"token {simulated.eos_token_id} is outside the vocabulary of {simulated.vocabulary}",
            where="simulated.eos_token_id",
        )
    if config.max_model_len and config.max_model_len > simulated.max_model_len:
        raise ConfigError(
            f"engine.max_model_len is {config.max_model_len}, but the simulated model was made for "
            f"{simulated.max_model_len} tokens",
            mend="raise simulated.max_model_len",
        )


def _block_count(config: EngineConfig, longest: int) -> int:
    if config.kv_cache_tokens:
        return max(1, config.kv_cache_tokens // config.block_size)
    return (-(-longest // config.block_size) + 1) * config.max_running
