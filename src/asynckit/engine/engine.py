"""The engine: add requests, step until they end, hear about every token.

One step is plan → forward → commit. The scheduler plans, the model runs one forward pass over the tokens of
all sequences that take part, the sampler picks the next tokens, and the step's events are returned. A
sequence joins and leaves between steps (continuous batching, Yu et al. 2022, "Orca"). The engine is not
thread-safe: one caller drives it, see :mod:`asynckit.engine.driver`.
"""

import math
from collections.abc import Callable, Iterable
from collections.abc import Sequence as SequenceOf

import torch
from transformers import PreTrainedModel

from asynckit.bounds import violations
from asynckit.engine.blocks import BlockPool
from asynckit.engine.config import EngineConfig
from asynckit.engine.kv_cache import KVCache
from asynckit.engine.linear import optimize
from asynckit.engine.memory import available_bytes
from asynckit.engine.model import ModelRunner, cache_shape, choose_device, choose_dtype, load_model
from asynckit.engine.native import Kernels, load_kernels, supports
from asynckit.engine.request import Finish, Request, Sequence, TokenEvent
from asynckit.engine.sampler import Draw, sample
from asynckit.engine.scheduler import Plan, Scheduler, Statistics
from asynckit.engine.text import StopStrings
from asynckit.errors import ConfigError, RequestError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import LocalModel
from asynckit.models.tokenizer import eos_token_ids, load_tokenizer

Decode = Callable[[SequenceOf[int]], str]


class Engine:
    """Continuous batching over one model.

    Args:
        runner: the model and its cache.
        scheduler: decides who runs; its pool must describe the runner's cache.
        eos_ids: tokens that end a response unless a request ignores them.
        decode: token ids to text, used for stop strings only.
    """

    def __init__(
        self, runner: ModelRunner, scheduler: Scheduler, eos_ids: frozenset[int], decode: Decode
    ) -> None:
        self._runner: ModelRunner | None = runner
        self._scheduler = scheduler
        self._eos_ids = eos_ids
        self._decode = decode
        self._vocabulary = int(runner.model.config.vocab_size)
        self._requests: dict[str, list[Sequence]] = {}
        self._stops: dict[Sequence, StopStrings] = {}
        self._ended: list[TokenEvent] = []  # ends decided outside a step; the next step reports them
        self.version = 0

    @classmethod
    def load(cls, config: EngineConfig, model_config: ModelConfig, model: LocalModel) -> "Engine":
        """Load a resolved model and size the cache.

        Raises:
            InputError: a model that the engine can't run.
            DependencyError: a device that can't be had.
            ConfigError: no room for even one sequence.
        """
        if config.threads:
            torch.set_num_threads(config.threads)
        device = choose_device(config)
        dtype = choose_dtype(config, device)
        network = load_model(
            model.path, dtype=dtype, device=device, trust_remote_code=model_config.trust_remote_code
        )
        tokenizer = load_tokenizer(model, model_config)
        longest = _max_model_len(config, int(network.config.max_position_embeddings))
        shape = cache_shape(network.config)
        blocks = _block_count(config, longest, shape.bytes_per_token(dtype.itemsize), device)
        cache = KVCache(shape, blocks, config.block_size, dtype, device)
        scheduler = Scheduler(
            BlockPool(blocks, config.block_size),
            max_running=config.max_running,
            max_step_tokens=config.max_step_tokens,
            max_model_len=longest,
        )
        kernels = _speed_up(network, config, model_config, dtype, device)
        runner = ModelRunner(network, cache, config.block_size, kernels)
        return cls(runner, scheduler, eos_token_ids(model.path, tokenizer), tokenizer.decode)

    def add(self, request: Request) -> None:
        """Queue a request; its first tokens come from a later step.

        Raises:
            RequestError: the request can't be served as it is. Nothing is queued then.
        """
        self._check(request)
        sequences = [Sequence(request, index, list(request.prompt_ids)) for index in range(request.n)]
        if request.sampling.stop:
            self._stops.update({s: StopStrings(request.sampling.stop, self._decode) for s in sequences})
        self._requests[request.id] = sequences
        self._scheduler.add(sequences)

    def abort(self, request_id: str) -> None:
        """End every sample of a request that has not ended; the next step says so. Unknown ids do nothing."""
        for sequence in list(self._requests.get(request_id, ())):
            self._ended.append(self._end(sequence, Finish.ABORT))

    def has_work(self) -> bool:
        """Whether a step would do or report anything."""
        return bool(self._ended) or self._scheduler.has_work()

    def statistics(self) -> Statistics:
        """Sequences running and waiting, cache use, tokens prefilled so far."""
        return self._scheduler.statistics()

    def step(self) -> list[TokenEvent]:
        """Run one forward pass and return what happened: one event per sampled token or ended sample."""
        events, self._ended = self._ended, []
        plan = self._scheduler.plan()
        if not plan.chunks:
            return events
        assert self._runner is not None
        try:
            logits_SV = self._runner.forward(plan)
        except (RuntimeError, ValueError, IndexError, MemoryError) as error:
            # What a broken pass leaves in the cache is unknown, so everyone in it ends; the others go on.
            failed = {s for chunk in plan.chunks for s in (chunk.sequence, *chunk.siblings)}
            return events + self._fail(failed, f"{type(error).__name__}: {error}".splitlines()[0])
        return events + self._commit(plan, logits_SV)

    def close(self) -> None:
        """Free the model and the cache.

        Sequences that have not ended are dropped: abort them first to hear of it.
        """
        self._runner = None

    def _commit(self, plan: Plan, logits_SV: torch.Tensor) -> list[TokenEvent]:
        self._scheduler.commit(plan)
        rows: list[int] = []
        sequences: list[Sequence] = []
        for row, chunk in enumerate(chunk for chunk in plan.chunks if chunk.samples):
            for sequence in (chunk.sequence, *chunk.siblings):
                rows.append(row)
                sequences.append(sequence)
        if not sequences:
            return []
        draws = [Draw(s.request.sampling, s.sample_index, len(s.tokens)) for s in sequences]
        logits_BV = logits_SV if len(rows) == len(logits_SV) else logits_SV[torch.tensor(rows)]
        tokens, logprobs = sample(logits_BV, draws)
        return [self._extend(*triple) for triple in zip(sequences, tokens, logprobs, strict=True)]

    def _extend(self, sequence: Sequence, token: int, logprob: float) -> TokenEvent:
        if not math.isfinite(logprob):
            return self._end(sequence, Finish.ERROR, "the model's logits are not finite")
        sequence.tokens.append(token)
        sequence.logprobs.append(logprob)
        sequence.versions.append(self.version)
        finish = self._finish_of(sequence, token)
        event = TokenEvent(sequence.request.id, sequence.sample_index, token, logprob, self.version, finish)
        if finish:
            self._end(sequence, finish)
        return event

    def _finish_of(self, sequence: Sequence, token: int) -> Finish | None:
        params = sequence.request.sampling
        stopped = token in params.stop_token_ids or (token in self._eos_ids and not params.ignore_eos)
        if stopped or (sequence in self._stops and self._stops[sequence].push(token)):
            return Finish.STOP
        return Finish.LENGTH if len(sequence.tokens) >= self._scheduler.longest(sequence) else None

    def _end(self, sequence: Sequence, finish: Finish, error: str = "") -> TokenEvent:
        if finish is Finish.ERROR and self._runner:
            # What it computed may not be finite and must not lie in wait for the blocks' next owner.
            self._runner.cache.clear([b for b in sequence.blocks if not self._scheduler.pool.shared(b)])
        self._scheduler.end(sequence, finish)
        self._stops.pop(sequence, None)
        request = sequence.request
        self._requests[request.id].remove(sequence)
        if not self._requests[request.id]:
            del self._requests[request.id]
        return TokenEvent(request.id, sequence.sample_index, None, 0.0, self.version, finish, error)

    def _fail(self, sequences: Iterable[Sequence], error: str) -> list[TokenEvent]:
        return [self._end(sequence, Finish.ERROR, error) for sequence in sequences]

    def _check(self, request: Request) -> None:
        where = f"request {request.id!r}"
        if request.id in self._requests:
            raise RequestError("a request with this id is already running", where=where)
        if request.n < 1:
            raise RequestError(f"n must be at least 1, not {request.n}", where=where)
        for name, problem in violations(request.sampling):
            raise RequestError(f"{name} {problem}", where=where)
        if "" in request.sampling.stop:
            raise RequestError("a stop string must not be empty", where=where)
        self._check_prompt(request, where)

    def _check_prompt(self, request: Request, where: str) -> None:
        if not request.prompt_ids:
            raise RequestError("the prompt is empty", where=where, mend="give at least one token")
        wrong = next((t for t in request.prompt_ids if not 0 <= t < self._vocabulary), None)
        if wrong is not None:
            raise RequestError(
                f"token id {wrong} is outside the vocabulary of {self._vocabulary}", where=where
            )
        longest = self._scheduler.max_model_len
        if len(request.prompt_ids) >= longest:
            raise RequestError(
                f"the prompt has {len(request.prompt_ids)} tokens and leaves no room for a response: "
                f"together they may have {longest}",
                where=where,
                mend="shorten the prompt or raise engine.max_model_len",
            )
        need = self._scheduler.blocks_needed(Sequence(request, 0, []))
        if need > self._scheduler.pool.size:
            pool = self._scheduler.pool
            raise RequestError(
                f"the request needs {need * pool.block_size} tokens of KV cache, "
                f"which holds {pool.size * pool.block_size}",
                where=where,
                mend="lower sampling.max_tokens or raise engine.kv_cache_tokens",
            )


def _speed_up(
    network: PreTrainedModel,
    config: EngineConfig,
    model_config: ModelConfig,
    dtype: torch.dtype,
    device: torch.device,
) -> Kernels | None:
    """Make a CPU model's layers fast; returns the attention kernels where they fit the model."""
    if device.type != "cpu" or not config.optimize:
        return None
    kernels = load_kernels(dtype, model_config.cache_dir)
    optimize(network, kernels)
    shape = cache_shape(network.config)
    group = network.config.num_attention_heads // shape.kv_heads
    return kernels if supports(shape.head_dim, group) else None


def _max_model_len(config: EngineConfig, models_own: int) -> int:
    if config.max_model_len is None:
        return models_own
    if config.max_model_len > models_own:
        raise ConfigError(
            f"engine.max_model_len is {config.max_model_len}, but the model was made for {models_own} tokens",
            mend=f"set it to {models_own} or less",
        )
    return config.max_model_len


def _block_count(config: EngineConfig, longest: int, bytes_per_token: int, device: torch.device) -> int:
    """Blocks that the cache gets: as configured, else what half of the free memory holds.

    Never more than ``max_running`` sequences of the longest kind can use.
    """
    if config.kv_cache_tokens:
        return max(1, config.kv_cache_tokens // config.block_size)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_bytes()
    per_sequence = -(-longest // config.block_size) + 1
    blocks = min(free // 2 // (bytes_per_token * config.block_size), per_sequence * config.max_running)
    if blocks < 1:
        raise ConfigError(
            f"{free / 2**20:.0f} MiB of free memory hold no KV cache",
            mend="free memory or set engine.kv_cache_tokens",
        )
    return blocks
