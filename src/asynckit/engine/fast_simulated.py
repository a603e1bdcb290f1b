"""The simulated engine without its tokens: the same schedule and times, many decode steps in one go.

:class:`asynckit.engine.simulated.SimulatedEngine` goes through every token, which a forecast of thousands of
samples has no time for. Here only what changes the schedule costs time: while the sequences that run merely
decode, nobody can join and nobody ends, any number of steps is one *stretch*. Steps with prefill are planned
by the scheduler as ever, the decodes beside them counted. Where blocks are short, or decodes crowd out
prefill, a step is the scheduler's own, whole. What ends, when, and under which versions is the same as there
(``tests/unit/engine/test_fast_simulated.py`` compares).

The owner moves time: ``begin`` plans and tells when it is over, ``end`` carries it out, and ``cut`` shortens
a stretch when something happens meanwhile, which takes effect between two steps as in
:class:`asynckit.engine.driver.EngineDriver`.
"""

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

from asynckit.engine.admission import check_room
from asynckit.engine.config import EngineConfig
from asynckit.engine.lengths import Lengths, length_shares, parse_lengths
from asynckit.engine.open_requests import OpenRequests
from asynckit.engine.plan import Plan
from asynckit.engine.request import Finish, OnUpdate, Request, Sequence
from asynckit.engine.scheduler import Statistics
from asynckit.engine.simulated import draw_token, make_latency, make_scheduler
from asynckit.engine.simulated_config import SimulatedConfig

Spans = tuple[tuple[int, int], ...]
"""``(policy version, tokens)`` of consecutive stretches of a response."""


@dataclass(frozen=True)
class Ended:
    """A sample that ended by itself, and how many tokens of which versions it has."""

    request_id: str
    sample_index: int
    finish: Finish
    spans: Spans

    @property
    def tokens(self) -> int:
        """Tokens of the response."""
        return sum(count for _, count in self.spans)


@dataclass
class _Work:
    """What goes on from one ``begin`` to its ``end``."""

    decodes: list[Sequence]
    times: list[float]  # at which each of its steps ends
    plan: Plan | None  # of what else runs, in a single step whose decodes are done; None for a stretch

    @property
    def steps(self) -> int:
        return len(self.times)


@dataclass
class _Sample:
    """Where a sample will end, and under which versions it has come how far: ``(first token, version)``."""

    end: int  # tokens, those of the prompt included
    finish: Finish
    versions: list[tuple[int, int]]


_NOTHING = Plan((), ())


class FastSimulatedEngine:
    """Continuous batching over nothing, in stretches.

    Args:
        config: batch and cache sizes.
        simulated: how long steps and responses are; the clock is the owner's.

    Raises:
        ConfigError: a setting is impossible.

    Attributes:
        busy_seconds: for which steps went on.
        sampled_tokens: so far.
    """

    def __init__(self, config: EngineConfig, simulated: SimulatedConfig) -> None:
        self._scheduler = make_scheduler(config, simulated)
        self._latency = make_latency(simulated)
        self._response_tokens = simulated.response_tokens
        self._vocabulary, self._eos_id = simulated.vocabulary, simulated.eos_token_id
        self._samples: dict[Sequence, _Sample] = {}
        self._open = OpenRequests(self._scheduler, lambda sequence, _: self._samples.pop(sequence))
        self._work: _Work | None = None
        self._began = 0.0
        self._steps = 0
        self._recomputed = False
        self._fillers: dict[tuple[int, int], int] = {}
        self.busy_seconds = 0.0
        self.sampled_tokens = 0

    @cached_property
    def _draw_length(self) -> Lengths:
        """Read when it is first needed: a trace may be long, and all lengths may be given."""
        return parse_lengths(self._response_tokens, where="simulated.response_tokens")

    @property
    def busy(self) -> bool:
        """Whether a step goes on: requests and weights have to wait for its end."""
        return self._work is not None

    def add(self, request: Request, lengths: tuple[int, ...] | None = None) -> None:
        """Queue a request.

        Args:
            request: what to generate; its samples' lengths are drawn as the simulated engine's are.
            lengths: the drawn lengths instead, one per sample.

        Raises:
            RequestError: it could never run here.
            ConfigError: ``simulated.response_tokens`` is no distribution.
            InputError: the trace of lengths can't be used.
        """
        assert self._work is None
        check_room(request, self._scheduler)
        if lengths is None:
            prompt = len(request.prompt_ids)
            lengths = tuple(self._draw_length(prompt, share) for share in length_shares(request))
        sequences = [Sequence(request, index, list(request.prompt_ids)) for index in range(request.n)]
        for sequence, length in zip(sequences, lengths, strict=True):
            self._samples[sequence] = self._sample(sequence, length)
        self._open.add(sequences)

    def abort(self, request_id: str) -> None:
        """End a request without a word; unknown ids do nothing."""
        assert self._work is None
        self._open.abort(request_id)
        self._open.take_ended()

    def update_weights(self, version: int, on_update: OnUpdate | str = OnUpdate.KEEP_KV) -> None:
        """Let later tokens carry ``version``, and do to the requests what the update says.

        Raises:
            InputError: the version doesn't grow, or ``on_update`` is none.
        """
        assert self._work is None
        checked = self._open.check_update(version, on_update)
        self._recomputed = self._recomputed or checked is OnUpdate.RECOMPUTE_KV
        self._open.weights_changed(version, checked)
        for sequence, sample in self._samples.items():
            if sequence.generated:
                sample.versions.append((len(sequence.tokens), version))

    def has_work(self) -> bool:
        """Whether there is anything to run."""
        return self._scheduler.has_work()

    def statistics(self) -> Statistics:
        """The scheduler's; its passes don't count stretches."""
        return self._scheduler.statistics()

    def begin(self, now: float) -> float:
        """Begin the next step or stretch at ``now``; returns when it ends. There must be work, none begun."""
        assert self._work is None
        self._began = now
        self._work = self._plan(now)
        return self._work.times[-1]

    def cut(self, now: float) -> float:
        """Let a stretch end with the step that goes on at ``now``; returns when that is."""
        assert self._work
        times = self._work.times
        del times[max(1, bisect_left(times, now) + 1) :]
        return times[-1]

    def end(self) -> list[Ended]:
        """Carry out what was begun; returns the samples that ended with it."""
        assert self._work
        work, self._work = self._work, None
        self.busy_seconds += work.times[-1] - self._began
        self._steps += work.steps
        sampled = list(work.decodes)
        if work.plan is None:
            self._decode(work.decodes, work.steps, alone=True)
        else:
            self._scheduler.commit(work.plan)
            for chunk in work.plan.chunks:
                if chunk.samples:
                    sampled += (chunk.sequence, *chunk.siblings)
        return self._extend(sampled, work)

    def _sample(self, sequence: Sequence, length: int) -> _Sample:
        """Where the sample ends, by the same rules as in the simulated engine."""
        params, prompt = sequence.request.sampling, len(sequence.request.prompt_ids)
        limit = self._scheduler.longest(sequence)
        end = limit + 1 if params.ignore_eos else prompt + max(length, params.min_tokens + 1)
        if params.stop_token_ids:
            end = min(end, self._first_stop_token(sequence, prompt + params.min_tokens, min(end, limit)))
        return _Sample(min(end, limit), Finish.STOP if end <= limit else Finish.LENGTH, [])

    def _first_stop_token(self, sequence: Sequence, first: int, end: int) -> int:
        """How many tokens there are with the first stop token; more than ``end`` where none comes before."""
        params = sequence.request.sampling
        for position in range(first, end):
            token = draw_token(
                params.seed,
                sequence.sample_index,
                position,
                vocabulary=self._vocabulary,
                eos_id=self._eos_id,
            )
            if token in params.stop_token_ids:
                return position + 1
        return end + 1

    def _plan(self, now: float) -> _Work:
        scheduler = self._scheduler
        decodes: list[Sequence] = []
        prefilling = fresh = False
        for sequence in scheduler.running():
            if len(sequence.tokens) - sequence.computed > 1:
                prefilling = True
            elif len(sequence.tokens) == len(sequence.request.prompt_ids):
                fresh = True  # a prompt of one token: its siblings may join
            else:
                decodes.append(sequence)
        if decodes and not fresh:
            if not prefilling and not scheduler.may_admit():
                if steps := self._longest_stretch(decodes):
                    return self._stretch(decodes, steps, now)
            elif self._has_room_beside(decodes, prefilling=prefilling):
                return self._step(decodes, now)
        return self._step([], now)

    def _longest_stretch(self, decodes: list[Sequence]) -> int:
        """Steps until the first one ends, or blocks run short; 0 where not all can take part."""
        scheduler = self._scheduler
        if len(decodes) > scheduler.max_step_tokens:
            return 0
        samples = self._samples
        most = min([samples[sequence].end - len(sequence.tokens) for sequence in decodes])
        free, need = scheduler.pool.free, scheduler.blocks_to_decode(decodes, most)
        if need > scheduler.pool.empty and (self._recomputed or scheduler.statistics().preemptions):
            # Blocks are evicted, and what is computed again may be among them: the order of the two matters.
            most, need = 1, scheduler.blocks_to_decode(decodes, 1)
        if need <= free:
            return most
        steps = range(1, most + 1)
        return bisect_left(steps, True, key=lambda k: scheduler.blocks_to_decode(decodes, k) > free)

    def _has_room_beside(self, decodes: list[Sequence], *, prefilling: bool) -> bool:
        """Whether a step's prefill can be planned as if the decodes were not there."""
        scheduler = self._scheduler
        share = scheduler.max_step_tokens // 4
        if not share or len(decodes) + share > scheduler.max_step_tokens:
            return False
        spare = 0
        if prefilling:  # which may preempt: only where it surely need not
            spare = scheduler.max_step_tokens // scheduler.pool.block_size + scheduler.max_running + 1
        return scheduler.blocks_to_decode(decodes, 1) + spare <= scheduler.pool.free

    def _stretch(self, decodes: list[Sequence], steps: int, now: float) -> _Work:
        times = []
        for step in range(self._steps, self._steps + steps):
            now += self._latency.seconds(_NOTHING, step, besides=len(decodes))
            times.append(now)
        return _Work(decodes, times, None)

    def _step(self, decodes: list[Sequence], now: float) -> _Work:
        """One step; ``decodes`` go beside the plan, or are in it where none are given."""
        if decodes:
            self._decode(decodes, 1, alone=False)
            plan = self._scheduler.plan_besides(len(decodes))
        else:
            plan = self._scheduler.plan()
        seconds = self._latency.seconds(plan, self._steps, besides=len(decodes))
        return _Work(decodes, [now + seconds], plan)

    def _decode(self, decodes: list[Sequence], steps: int, *, alone: bool) -> None:
        for sequence in decodes:
            sequence.tokens.extend([sequence.tokens[-1]] * steps)
        self._scheduler.decode(decodes, steps, alone=alone)

    def _extend(self, sampled: list[Sequence], work: _Work) -> list[Ended]:
        """Count what was sampled; returns the samples that reached their ends."""
        ended = []
        decoded = len(work.decodes)
        self.sampled_tokens += decoded * work.steps + len(sampled) - decoded
        for place, sequence in enumerate(sampled):
            sample = self._samples[sequence]
            if place >= decoded:
                self._take_token(sequence, sample)
            if len(sequence.tokens) >= sample.end:
                ended.append(self._end(sequence, sample))
        return ended

    def _take_token(self, sequence: Sequence, sample: _Sample) -> None:
        if not sequence.generated:
            sample.versions.append((len(sequence.tokens), self._open.version))
            sequence.tokens.append(self._filler(sequence))
        else:
            sequence.tokens.append(sequence.tokens[-1])

    def _filler(self, sequence: Sequence) -> int:
        """What stands for a response's tokens: alike where they would be, and in no vocabulary."""
        drawn_from = (sequence.request.sampling.seed, sequence.sample_index)
        return self._fillers.setdefault(drawn_from, self._vocabulary + len(self._fillers))

    def _end(self, sequence: Sequence, sample: _Sample) -> Ended:
        self._open.end(sequence, sample.finish)
        starts = [*(start for start, _ in sample.versions), len(sequence.tokens)]
        spans = tuple(
            (version, end - start)
            for (start, version), end in zip(sample.versions, starts[1:], strict=True)
            if end > start
        )
        return Ended(sequence.request.id, sequence.sample_index, sample.finish, spans)
