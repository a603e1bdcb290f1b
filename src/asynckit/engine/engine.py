"""The engine: add requests, step until they end, hear about every token.

One step is plan → forward → commit. The scheduler plans, the model runs one forward pass over the tokens of
all sequences that take part, the sampler picks the next tokens, and the step's events are returned. A
sequence joins and leaves between steps (continuous batching, Yu et al. 2022, "Orca"). The engine is not
thread-safe: one caller drives it, see :mod:`asynckit.engine.driver`.
"""

import logging
import math
from collections.abc import Callable, Mapping
from collections.abc import Sequence as SequenceOf
from pathlib import Path

import torch

from asynckit.engine.adapters import AdapterStore
from asynckit.engine.admission import check_length, check_room
from asynckit.engine.capacity import capacity
from asynckit.engine.config import EngineConfig
from asynckit.engine.embedding import Pooling, embed, read_pooling
from asynckit.engine.grammar import Grammars, Matcher
from asynckit.engine.loading import load, meet
from asynckit.engine.memory import give_back_freed_memory
from asynckit.engine.model import ModelRunner
from asynckit.engine.open_requests import OpenRequests
from asynckit.engine.parallel import Parallel, Ranks
from asynckit.engine.prompt_scores import logit_rows, record_prompt_scores
from asynckit.engine.request import Finish, Likeliest, OnUpdate, Request, Sequence, TokenEvent
from asynckit.engine.sample_state import SampleState
from asynckit.engine.sampler import Draw, sample
from asynckit.engine.scheduler import Plan, Scheduler, Statistics
from asynckit.engine.staging import index
from asynckit.engine.text import StopStrings
from asynckit.engine.validate import check_request, ending_ids
from asynckit.engine.weights import WeightSlots, open_source
from asynckit.errors import InputError, RequestError, WorkFailed
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import LocalModel
from asynckit.models.tokenizer import eos_token_ids, load_tokenizer

Decode = Callable[[SequenceOf[int]], str]

log = logging.getLogger(__name__)


class Engine:
    """Continuous batching over one model.

    Args:
        runner: the model and its cache.
        scheduler: decides who runs; its pool must describe the runner's cache.
        weights: where the model's named weights are.
        adapters: the LoRA adapters that requests can name.
        grammars: compiles the grammars of constrained requests.
        eos_ids: tokens that end a response unless a request ignores them.
        decode: token ids to text, used for stop strings only.
        pooling: how prompts become vectors; None where the model is not for that.
        ranks: the processes that hold the model together; None where this one has all of it.

    Attributes:
        adapters: LoRA adapters, to register and unregister.
        capacity: what it can hold.
        embeds: whether :meth:`embed` can be asked.
    """

    def __init__(
        self,
        runner: ModelRunner,
        scheduler: Scheduler,
        weights: WeightSlots,
        adapters: AdapterStore,
        grammars: Grammars,
        eos_ids: frozenset[int],
        decode: Decode,
        pooling: Pooling | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self._runner: ModelRunner | None = runner
        self._scheduler = scheduler
        self._weights = weights
        self.adapters = adapters
        self._broken: list[tuple[Sequence, str]] = []  # whose adapter could not be loaded in this step
        scheduler.may_start = self._may_start
        self._eos_ids = eos_ids
        self._decode = decode
        self._ranks = ranks
        self._pooling = pooling
        self.capacity = capacity(scheduler, int(runner.model.config.vocab_size))
        self.embeds = pooling is not None
        self._open = OpenRequests(scheduler, self._let_go)
        self._stops: dict[Sequence, StopStrings] = {}
        self._grammars = grammars
        self._matchers: dict[str, Matcher] = {}  # at the beginning of each constrained request's grammar

    @classmethod
    def load(
        cls,
        config: EngineConfig,
        model_config: ModelConfig,
        model: LocalModel,
        parallel: Parallel | None = None,
        *,
        grammars_tried: bool = False,
    ) -> "Engine":
        """Load a resolved model and size the cache.

        Args:
            config: how it runs.
            model_config: how it is read.
            model: where it is.
            parallel: this process's place among those that hold the model together, each with an engine to
                which the same happens in the same order; None for the whole model in this process.
            grammars_tried: whether whoever adds requests has tried their grammars already
                (:func:`asynckit.engine.grammar.check_grammar`), which holds up every step here.

        Raises:
            InputError: a model that the engine can't run.
            DependencyError: a device that can't be had, or other ranks that don't come.
            ConfigError: no room for even one sequence, or a model that can't be shared out like that.
            WorkFailed: other ranks are gone, late, or have other settings.
        """
        if config.threads:
            torch.set_num_threads(config.threads)
        ranks = meet(config, model_config, model, parallel) if parallel else None
        try:
            loaded = load(config, model_config, model, ranks)
            network = loaded.runner.model
            tokenizer = load_tokenizer(model, model_config)
            adapters = AdapterStore(loaded.layers, config, network.dtype)
            eos_ids = eos_token_ids(model.path, tokenizer)
            pooling = read_pooling(model.path)
            vocabulary = int(network.config.vocab_size)
            grammars = Grammars(tokenizer, vocabulary, eos_ids, tried=grammars_tried)
        except BaseException:
            if ranks:
                ranks.leave()
            raise
        parts = (loaded.runner, loaded.scheduler, loaded.weights, adapters, grammars)
        return cls(*parts, eos_ids, tokenizer.decode, pooling, ranks)

    @property
    def version(self) -> int:
        """Of the weights that sample now; 0 for those that were loaded."""
        return self._open.version

    def add(self, request: Request) -> None:
        """Queue a request; its first tokens come from a later step.

        Raises:
            RequestError: the request can't be served as it is. Nothing is queued then.
        """
        self._check(request)
        sequences = [Sequence(request, index, list(request.prompt_ids)) for index in range(request.n)]
        if request.adapter is not None:
            number = self.adapters.hold(request)
            for sequence in sequences:
                sequence.adapter = sequence.cache_salt = number
        if request.sampling.stop:
            self._stops.update({s: StopStrings(request.sampling.stop, self._decode) for s in sequences})
        self._open.add(sequences)

    def abort(self, request_id: str) -> None:
        """End every sample of a request that has not ended; the next step says so. Unknown ids do nothing."""
        self._open.abort(request_id)

    def update_weights(
        self,
        version: int,
        new: Path | str | Mapping[str, torch.Tensor] | None,
        on_update: OnUpdate | str = OnUpdate.KEEP_KV,
    ) -> None:
        """Replace the model's weights in place, between two steps; later tokens carry ``version``.

        Args:
            version: of the new weights; must grow.
            new: a model folder, or tensors under the names that the model was saved with. A folder's files
                may be replaced meanwhile, but not written to. None leaves them as they are, as an update does
                that changes nothing.
            on_update: what becomes of the requests that run.

        Raises:
            InputError: the weights don't fit the model, the version doesn't grow, or the engine is closed.
                Nothing has changed then.
            WorkFailed: all was checked and the update broke off: a file could not be read, or memory ran out.
                The weights are mixed then, so every request ends with an error and new ones are refused until
                another update succeeds.
        """
        if self._runner is None:
            raise InputError("the engine is closed", where="update_weights")
        checked = self._open.check_update(version, on_update, same=new is None)
        if new is not None:
            self._replace_weights(new)
            self._runner.weights_changed()
        self._open.weights_changed(version, checked)

    def _replace_weights(self, new: Path | str | Mapping[str, torch.Tensor]) -> None:
        source = open_source(new)
        self._weights.check(source)
        try:
            self._weights.load(source)
        except BaseException:  # also Ctrl-C: whatever it was, the weights are mixed
            self._open.weights_broken("an update of its weights broke off")
            raise

    def has_work(self) -> bool:
        """Whether a step would do or report anything."""
        return self._open.has_work()

    def statistics(self) -> Statistics:
        """Sequences running and waiting, cache use, tokens prefilled so far."""
        return self._scheduler.statistics()

    def step(self) -> list[TokenEvent]:
        """Run one forward pass and return what happened: one event per sampled token or ended sample.

        Raises:
            WorkFailed: one of the processes that hold the model together is gone, hangs, or no longer does
                what the others do. All of them have to be started anew.
        """
        events = self._open.take_ended()
        self.adapters.begin_step(s.adapter for s in self._scheduler.running() if s.adapter is not None)
        plan = self._scheduler.plan()
        broken, self._broken = self._broken, []
        events += [self._open.end(sequence, Finish.ERROR, error) for sequence, error in broken]
        if self._ranks:
            self._ranks.agree((self.version, plan.summary()))
        if not plan.chunks:
            return events
        assert self._runner is not None
        try:
            with self.adapters.applied(plan.chunks):
                logits_SV = self._runner.forward(plan)
            self._scheduler.commit(plan)
            choices = self._sample(plan, logits_SV)
        except Exception as error:
            if self._ranks:  # the others may have come further
                raise self._ranks.failure(error) from error
            # What a broken pass leaves in the cache is unknown, so everyone in it ends; the others go on.
            log.exception("a pass failed, and with it %d chunks", len(plan.chunks))
            failed = {s for chunk in plan.chunks for s in (chunk.sequence, *chunk.siblings)}
            return events + [self._open.end(sequence, Finish.ERROR, _reason(error)) for sequence in failed]
        return events + [self._extend(*choice) for choice in choices]

    def embed(self, prompts_ids: SequenceOf[SequenceOf[int]]) -> list[list[float]]:
        """A vector for each prompt, as the model's folder says they are made; takes no part in any step.

        Raises:
            RequestError: the model is not for that, or a token id is wrong. NoRoom, a kind of it: a prompt is
                longer than the model can read.
            WorkFailed: the pass failed, or as from :meth:`step`.
        """
        self._check_embed(prompts_ids)
        assert self._runner is not None
        assert self._pooling is not None
        if self._ranks:
            self._ranks.agree((self.version, prompts_ids))
        try:
            return embed(self._runner, prompts_ids, self._pooling, self._scheduler.max_step_tokens)
        except (RuntimeError, MemoryError) as error:  # no memory on the device, say
            if self._ranks:
                raise self._ranks.failure(error) from error
            raise WorkFailed(f"the prompts could not be embedded: {_reason(error)}") from error

    def close(self) -> None:
        """Free the model and the cache.

        Sequences that have not ended are dropped: abort them first to hear of it.
        """
        self._runner = None
        self._weights.close()
        self.adapters.close()
        if self._ranks:
            self._ranks.leave()
        give_back_freed_memory()

    def _may_start(self, sequence: Sequence) -> bool:
        """Whether the sequence's adapter is ready, or there is none."""
        if sequence.adapter is None:
            return True
        try:
            return self.adapters.start(sequence.adapter)
        except (InputError, RuntimeError, MemoryError, OSError) as error:  # no memory on the device, say
            self._broken.append((sequence, str(error).splitlines()[0]))
            return False

    def _sample(self, plan: Plan, logits_LV: torch.Tensor) -> list[tuple[Sequence, int, float, Likeliest]]:
        """Score prompts and choose tokens; returns who gets which, its logprob and the likeliest ones."""
        assert self._runner is not None
        kernels = self._runner.kernels
        rows: list[int] = []
        sequences: list[Sequence] = []
        end = 0
        for chunk in plan.chunks:
            begin, end = end, end + logit_rows(chunk)
            if chunk.sequence.needs_all_rows:
                record_prompt_scores(chunk, logits_LV[begin:end], kernels)
            if chunk.samples:
                joined = (chunk.sequence, *chunk.siblings)
                rows += [end - 1] * len(joined)
                sequences += joined
        assert end == len(logits_LV)
        if not sequences:
            return []
        logits_BV = logits_LV if rows == list(range(end)) else logits_LV[index(rows, logits_LV.device)]
        draws = [self._draw(s) for s in sequences]
        tokens, logprobs, tops = sample(logits_BV, draws, kernels)
        if self._ranks:  # equal logits aside from rounding, which another kind of processor may do otherwise
            tokens, logprobs = self._ranks.choice(tokens, logprobs)
        return list(zip(sequences, tokens, logprobs, tops, strict=True))

    def _draw(self, sequence: Sequence) -> Draw:
        request = sequence.request
        if sequence.state is None and request.sampling.adjusts:
            matcher = self._matchers.get(request.id)
            ending = ending_ids(request.sampling, self._eos_ids)
            place = matcher.copy() if matcher else None
            sequence.state = SampleState(request.sampling, request.prompt_ids, ending, place)
        state = sequence.state if sequence.state and sequence.state.active else None
        return Draw(request.sampling, sequence.sample_index, len(sequence.tokens), state)

    def _extend(self, sequence: Sequence, token: int, logprob: float, top: Likeliest) -> TokenEvent:
        scores = tuple(sequence.prompt_scores) if sequence.needs_all_rows else ()
        if not math.isfinite(logprob) or any(math.isnan(each.logprob) for each in scores if each):
            return self._open.end(sequence, Finish.ERROR, "the model's logits are not finite")
        if token < 0:
            assert sequence.state
            return self._open.end(sequence, Finish.ERROR, sequence.state.why_nothing_is_left())
        sequence.needs_all_rows = False  # the prompt's scores go out with this first token
        sequence.tokens.append(token)
        sequence.logprobs.append(logprob)
        sequence.versions.append(self.version)
        try:
            finish = self._finish_of(sequence, token)
        except Exception as error:  # a stop string's decoding or a grammar, which concern nobody else
            log.exception("request %r failed", sequence.request.id)
            return self._open.end(sequence, Finish.ERROR, _reason(error))
        event = TokenEvent(
            *(sequence.request.id, sequence.sample_index, token, logprob, self.version, finish),
            top_logprobs=top,
            prompt_logprobs=scores,
        )
        if finish:
            self._open.end(sequence, finish)
        return event

    def _finish_of(self, sequence: Sequence, token: int) -> Finish | None:
        params, state = sequence.request.sampling, sequence.state
        if state:
            state.push(token)
        found = sequence in self._stops and self._stops[sequence].push(token)
        if (
            token in ending_ids(params, self._eos_ids)
            or (found and sequence.generated >= params.min_tokens)
            or (state and state.complete)
        ):
            return Finish.STOP
        return Finish.LENGTH if len(sequence.tokens) >= self._scheduler.longest(sequence) else None

    def _let_go(self, sequence: Sequence, finish: Finish) -> None:  # noqa: ARG002 - called with both
        if sequence.adapter is not None:
            self.adapters.release(sequence.adapter)
        self._stops.pop(sequence, None)
        if sequence.request.id not in self._open:
            self._matchers.pop(sequence.request.id, None)

    def _check(self, request: Request) -> None:
        self._open.check_new(request)
        check_request(request, vocabulary=self.capacity.vocabulary, eos_ids=self._eos_ids)
        check_room(request, self._scheduler)
        if request.sampling.constrained:
            self._compile_grammar(request)

    def _check_embed(self, prompts_ids: SequenceOf[SequenceOf[int]]) -> None:
        if self._pooling is None:
            raise RequestError("this model is not made for embeddings", where="embed")
        self._open.check_order("embed")
        for number, ids in enumerate(prompts_ids):
            request = Request(f"embed {number}", tuple(ids))
            check_request(request, vocabulary=self.capacity.vocabulary, eos_ids=self._eos_ids)
            check_length(request, self.capacity.max_model_len)

    def _compile_grammar(self, request: Request) -> None:
        matcher = self._grammars.start(request.sampling)
        # What was compiled for requests that were then refused for another reason goes.
        self._matchers = {name: each for name, each in self._matchers.items() if name in self._open}
        self._matchers[request.id] = matcher


def _reason(error: Exception) -> str:
    """One line for the requests that an error ends."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
