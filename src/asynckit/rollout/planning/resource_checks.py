"""What a run needs around it, compared with what there is: engines, disk, memory, CPUs and GPUs."""

import asyncio
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asynckit.cluster.config import RayConfig
from asynckit.cluster.connection import connect, disconnect
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.memory import available_bytes
from asynckit.errors import DependencyError
from asynckit.models.local import LocalModel, weight_files
from asynckit.rollout.cluster import refuse_shortage, replica_resources
from asynckit.rollout.config import RolloutConfig
from asynckit.rollout.engines.openai_engine import OpenAIGenerator
from asynckit.rollout.engines.openai_servers import server_urls
from asynckit.rollout.engines.vllm_engine import require_vllm
from asynckit.rollout.openai_config import OpenAIConfig
from asynckit.rollout.planning.findings import Findings

# Bytes in the run directory, measured on runs and rounded up: per response token, prompt token and sample.
_BYTES = {"parquet": (12, 6, 400), "jsonl": (45, 12, 1500)}
_LEDGER_FACTOR = 5  # records that wait for their part are kept as text in the ledger, which never shrinks


@dataclass(frozen=True)
class OpenedModel:
    """What is known of a model without reading its weights; the tokenizer alone where none are needed."""

    local: LocalModel | None
    tokenizer: Any
    shape: Any


def check_disk(
    found: Findings,
    encoded: Sequence[tuple[int, ...]] | None,
    groups: int,
    max_tokens: int,
    rollout: RolloutConfig,
) -> None:
    """Compare the records of responses that are all as long as they may be with the free space."""
    check = "disk"
    if encoded is None:
        found.skip(check, "needs the prompts' lengths")
        return
    need = record_bytes(encoded, groups, max_tokens, rollout)
    folder = Path(rollout.out or "runs").expanduser().absolute()
    while not folder.is_dir():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        mend = "choose another --out"
        found.bad(check, DependencyError("the folder can't be written", where=str(folder), mend=mend))
        return
    free = shutil.disk_usage(folder).free
    text = f"records take up to {_size(need)}; {_size(free)} are free"
    if need > free:
        found.bad(check, DependencyError(text, where=str(folder), mend="free some, or choose another --out"))
    else:
        found.ok(check, text)


def record_bytes(
    encoded: Sequence[tuple[int, ...]], groups: int, max_tokens: int, rollout: RolloutConfig
) -> int:
    """Bytes that a run directory holds when all responses are as long as they may be."""
    per_token, per_prompt_token, per_sample = _BYTES[rollout.format]
    prompt = sum(map(len, encoded)) / len(encoded)
    one = per_token * max_tokens + per_prompt_token * prompt + per_sample
    samples = groups * rollout.n
    return int(one * (samples + _LEDGER_FACTOR * min(samples, 2 * rollout.part_samples)))


def check_engine(
    found: Findings,
    model: OpenedModel | None,
    openai: OpenAIConfig,
    sampling: SamplingParams,
    rollout: RolloutConfig,
) -> None:
    """Ask servers what they are and can do; see whether vLLM is there. Our own engines always are."""
    check = "engine"
    if rollout.engine == "vllm":
        before = len(found.found)
        found.attempt(check, require_vllm)
        if len(found.found) == before:
            found.ok(check, "vLLM is installed")
    elif rollout.engine == "openai" and model is None:
        found.skip(check, "needs the model's tokenizer")
    elif rollout.engine == "openai" and model is not None:
        tokenizer = model.tokenizer
        urls = found.attempt(check, lambda: asyncio.run(_ask_servers(openai, sampling, tokenizer)))
        if urls is not None:
            found.ok(check, f"{', '.join(urls)}: there, with token ids and logprobs that suit the sampling")


async def _ask_servers(config: OpenAIConfig, sampling: SamplingParams, tokenizer: Any) -> list[str]:
    generator = await OpenAIGenerator.open(config, sampling, tokenizer)
    await generator.close()
    return server_urls(config)


def check_memory(
    found: Findings, model: OpenedModel | None, engine: EngineConfig, rollout: RolloutConfig
) -> None:
    """Compare weights and KV caches with what this machine has left; on a GPU only the engine knows."""
    check = "memory"
    if rollout.engine in ("simulated", "openai"):
        found.ok(check, f"the engine {rollout.engine} needs none")
        return
    if model is None or model.local is None:
        found.skip(check, "needs the model")
        return
    from asynckit.engine.model import cache_shape, choose_device, choose_dtype

    device = found.attempt(check, lambda: choose_device(engine))
    if device is None:
        return
    if device.type != "cpu":
        found.skip(check, "a GPU's is known when the engine is there")
        return
    per_token = cache_shape(model.shape).bytes_per_token(choose_dtype(engine, device).itemsize)
    weights = sum(path.stat().st_size for path in weight_files(model.local.path))
    free = available_bytes()
    cache = engine.kv_cache_tokens * per_token if engine.kv_cache_tokens else 0
    need = (weights + cache) * rollout.replicas
    text = (
        f"{_size(weights)} of weights and {_size(cache) if cache else 'half of what is left'} of KV cache "
        f"({_size(per_token)} per token) per replica, {_size(need)} in all; {_size(free)} are free"
    )
    if need > free:
        mend = "use fewer replicas, a smaller model, or a smaller engine.kv_cache_tokens"
        found.bad(check, DependencyError(text, where="engine.kv_cache_tokens", mend=mend))
    else:
        found.ok(check, text)


def check_ray(found: Findings, engine: EngineConfig, rollout: RolloutConfig, config: RayConfig) -> None:
    """Compare what the replicas ask for with what there is; a local Ray is not started for that."""
    check = "ray"
    if config.address == "local":
        there = {"CPU": float(config.num_cpus or os.cpu_count() or 1), "GPU": float(_gpus(engine, rollout))}
        nodes: list[dict[str, Any]] = [{"Alive": True, "Resources": there}]
        where = "this machine"
    elif (seen := found.attempt(check, lambda: _cluster(config))) is None:
        return
    else:
        nodes, there = seen
        where = f"{sum(node['Alive'] for node in nodes)} machines at {config.address}"
    wanted = replica_resources(engine, rollout, nodes)
    text = (
        f"{rollout.replicas} x ({wanted['num_cpus']:g} CPUs, {wanted['num_gpus']:g} GPUs); free on {where}: "
        f"{there.get('CPU', 0.0):g} CPUs, {there.get('GPU', 0.0):g} GPUs"
    )
    try:
        refuse_shortage(wanted, there, rollout.replicas)
    except DependencyError as error:
        if config.address == "local":
            found.bad(check, error)
        else:  # which may grow
            found.note(check, f"{text}: the run waits for more, up to rollout.startup_timeout")
    else:
        found.ok(check, text)


def _cluster(config: RayConfig) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The machines of a cluster, and what is free on them."""
    import ray

    connect(config)
    try:
        return ray.nodes(), ray.available_resources()
    finally:
        disconnect()


def _gpus(engine: EngineConfig, rollout: RolloutConfig) -> int:
    if rollout.engine == "simulated" or engine.device == "cpu":
        return 0
    import torch

    return int(torch.cuda.device_count())


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"
