"""Generates with vLLM inside the rollouter, for machines on which it is installed.

Requests and answers take the way through ``openai_wire``, so that ids and logprobs pass
the same checks as those of a server. vLLM reads logprobs either before everything else or after everything
else; :func:`choose_logprobs` takes the way under which they mean what ours mean.
"""

import asyncio
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from asynckit.engine.clock import Clock, RealClock
from asynckit.engine.completion import Completion
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.request import OnUpdate, Request
from asynckit.engine.validate import check_request, check_types, ending_ids
from asynckit.errors import ConfigError, DependencyError, RequestError
from asynckit.models.config import ModelConfig
from asynckit.models.local import LocalModel
from asynckit.models.resolve import resolve_tokenizer
from asynckit.models.tokenizer import eos_token_ids
from asynckit.rollout.engines.openai_wire import (
    BrokenOff,
    LogprobsAfter,
    ServedModel,
    body_of,
    check_sampling,
    completion_of,
)
from asynckit.rollout.engines.samples import Samples

_AFTER = {
    "raw_logprobs": LogprobsAfter(temperature=False, adjustments=False, cuts=False),
    "processed_logprobs": LogprobsAfter(temperature=True, adjustments=True, cuts=True),
}
_CLOSE_SECONDS = 5.0
_NOT_PARAMETERS = ("model", "prompt", "n", "stream", "return_token_ids", "logit_bias")


def choose_logprobs(sampling: SamplingParams) -> str:
    """The ``logprobs_mode`` under which vLLM's logprobs mean what a record's mean.

    Raises:
        RequestError: there is none for these parameters.
    """
    try:
        check_sampling(sampling, _AFTER["raw_logprobs"])
    except RequestError:
        if sampling.temperature in (0.0, 1.0) or not (sampling.cuts or sampling.adjusts):
            check_sampling(sampling, _AFTER["processed_logprobs"])
            return "processed_logprobs"
        raise RequestError(
            f"at temperature={sampling.temperature:g} vLLM takes logprobs after cuts, bias and penalties",
            where="sampling",
            mend="use sampling.temperature=1, leave those out, or use --engine torch",
        ) from None
    return "raw_logprobs"


class VLLMGenerator:
    """A ``Generator`` with a vLLM engine of its own. Made by :meth:`open`."""

    def __init__(self, engine: Any, served: ServedModel, tokenizer: Any, eos_ids: frozenset[int]) -> None:
        self.clock: Clock = RealClock()
        self.sampled_tokens = 0
        self.prefilled_tokens = 0
        self._engine = engine
        self._served = served
        self._vocabulary = 1 + max(tokenizer.get_vocab().values())
        self._eos_ids = eos_ids
        self._samples = Samples(self.clock)

    @property
    def busy_seconds(self) -> float:
        """Seconds in which any request was under way."""
        return self._samples.busy_seconds

    @classmethod
    async def open(
        cls,
        config: EngineConfig,
        model: ModelConfig,
        local: LocalModel,
        sampling: SamplingParams,
        tokenizer: Any,
    ) -> Self:
        """Load a model into vLLM, which takes about a minute.

        Raises:
            DependencyError: vLLM isn't installed, or can't load the model or use the device.
            RequestError: its logprobs would mean something else under the run's ``sampling``.
            ConfigError: the engine's settings ask for what vLLM can't do.
        """
        arguments = engine_arguments(config, model, local, choose_logprobs(sampling))
        engine = await asyncio.to_thread(_load, arguments, config.device)
        longest = int(engine.vllm_config.model_config.max_model_len)
        served = ServedModel(model.name, longest, _AFTER[arguments["logprobs_mode"]])
        return cls(engine, served, tokenizer, eos_token_ids(local.path, tokenizer))

    async def generate(self, request: Request) -> list[Completion]:
        """Have every sample of a request generated; it carries the version of the moment when it was sent.

        Cancelling the caller aborts it.

        Raises:
            RequestError: vLLM can't serve the request.
            DependencyError: vLLM has died, or its answer can't be used.
        """
        check_types(request)
        check_request(request, vocabulary=self._vocabulary, eos_ids=self._eos_ids)
        check_sampling(request.sampling, self._served.logprobs_after)
        bodies = [body_of(request, index, self._served) for index in range(request.n)]
        done = await self._samples.run(self._sample(request, body) for body in bodies)
        self.prefilled_tokens += len(request.prompt_ids)
        return done

    async def update_weights(
        self,
        version: int,
        new: Path | str | Mapping[str, Any] | None = None,
        on_update: OnUpdate | str = OnUpdate.KEEP_KV,
    ) -> None:
        """Call what vLLM samples with by a new version; what is under way keeps the old one.

        Raises:
            InputError: there are new weights, or the version doesn't grow.
        """
        self._samples.relabel(version, new, on_update)

    async def close(self) -> None:
        """End what runs and vLLM's own process."""
        await self._samples.close()
        engine, self._engine = self._engine, None  # it shuts down once more when it is collected
        await asyncio.to_thread(engine.shutdown, _CLOSE_SECONDS)
        self.clock.close()

    async def _sample(self, request: Request, body: dict[str, Any]) -> Completion:
        from vllm.inputs import TokensPrompt
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        version, parameters = self._samples.version, _parameters(request, body, self._eos_ids)
        prompt = TokensPrompt(prompt_token_ids=body["prompt"])
        try:
            with self._samples.busy():
                (output,) = [each async for each in self._engine.generate(prompt, parameters, uuid4().hex)]
        except ValueError as error:
            raise RequestError(f"vLLM refuses it: {error}", where=f"request {request.id!r}") from error
        except (EngineDeadError, EngineGenerateError) as error:
            raise DependencyError(
                f"vLLM has died: {error}", mend="see the run's logs; --resume goes on"
            ) from error
        try:
            done = completion_of(_answer(output), body, version=version, end=self.clock.now())
        except BrokenOff as error:
            raise DependencyError(
                "vLLM broke a response off", mend="--resume goes on with the run"
            ) from error
        self.sampled_tokens += len(done.token_ids)
        return done


def engine_arguments(
    config: EngineConfig, model: ModelConfig, local: LocalModel, logprobs_mode: str
) -> dict[str, Any]:
    """Our settings as those of vLLM's engine; what has no counterpart there is left to vLLM.

    Raises:
        ConfigError: a setting asks for what vLLM can't promise.
    """
    if config.deterministic:
        raise ConfigError(
            "vLLM can't promise the same bits for a request whatever runs beside it",
            where="engine.deterministic",
            mend="leave it out, or use --engine torch",
        )
    arguments: dict[str, Any] = {
        "model": str(local.path),
        "tokenizer": str(resolve_tokenizer(model) if model.tokenizer else local.path),
        "trust_remote_code": model.trust_remote_code,
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_running,
        "max_num_batched_tokens": max(config.max_step_tokens, config.max_running),
        "logprobs_mode": logprobs_mode,
    }
    if config.kv_cache_tokens is not None:
        arguments["block_size"] = config.block_size
        arguments["num_gpu_blocks_override"] = -(-config.kv_cache_tokens // config.block_size)
    return arguments


def require_vllm() -> None:
    """Say at once that vLLM is missing; importing it takes long.

    Raises:
        DependencyError: it is not installed.
    """
    if importlib.util.find_spec("vllm") is None:
        raise DependencyError(
            "vLLM is not installed",
            where="rollout.engine=vllm",
            mend="install vllm beside asynckit, or run it elsewhere and use --engine openai",
        )


def _load(arguments: Mapping[str, Any], device: str) -> Any:
    require_vllm()
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # vLLM reads these when it is imported
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # the rollouter has threads
    try:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        if device not in ("auto", current_platform.device_type):
            raise DependencyError(
                f"this vLLM computes on {current_platform.device_type}, not on {device}",
                where="engine.device",
            )
        return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
    except (ImportError, ValueError, RuntimeError, OSError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DependencyError(
            f"vLLM can't be started: {reason}",
            where="rollout.engine=vllm",
            mend="see what vLLM wrote, in Ray's own logs of the rollouter",
        ) from error


def _parameters(request: Request, body: Mapping[str, Any], eos_ids: frozenset[int]) -> Any:
    """The sampling parameters of vLLM for one sample."""
    import vllm
    from vllm.sampling_params import RequestOutputKind

    common = {name: value for name, value in body.items() if name not in _NOT_PARAMETERS}
    common["stop_token_ids"] = sorted(ending_ids(request.sampling, eos_ids))
    if body.get("logit_bias"):
        common["logit_bias"] = {int(token): bias for token, bias in body["logit_bias"].items()}
    return vllm.SamplingParams(
        **common,
        detokenize=bool(request.sampling.stop),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _answer(output: Any) -> dict[str, Any]:
    """What vLLM returned, as a server would have."""
    (sample,) = output.outputs
    logprobs = [place[token].logprob for token, place in zip(sample.token_ids, sample.logprobs, strict=True)]
    choice = {
        "token_ids": list(sample.token_ids),
        "prompt_token_ids": list(output.prompt_token_ids),
        "logprobs": {"token_logprobs": logprobs},
        "finish_reason": sample.finish_reason,
    }
    return {"choices": [choice]}
