"""A model from its folder to the first pass: read, shared out, made fast, given a cache, and tried."""

from dataclasses import dataclass, replace
from functools import partial

import torch

from asynckit.engine.blocks import BlockPool
from asynckit.engine.compiled import check_compile, compile_layers
from asynckit.engine.config import EngineConfig
from asynckit.engine.decode_graphs import CudaCapture, DecodeGraphs
from asynckit.engine.kv_cache import KVCache
from asynckit.engine.lora_layers import LoraLayers
from asynckit.engine.model import ModelRunner, cache_shape, choose_device, choose_dtype, load_model
from asynckit.engine.parallel import Parallel, Ranks
from asynckit.engine.preparation import (
    block_count,
    make_deterministic,
    max_model_len,
    prefill_chunk,
    speed_up,
)
from asynckit.engine.scheduler import Scheduler
from asynckit.engine.self_check import TRIAL, check_against_own_code, check_shares, own_logits
from asynckit.engine.sharding import Shards, check_sizes
from asynckit.engine.weights import WeightSlots
from asynckit.errors import ConfigError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import LocalModel
from asynckit.models.shape import load_shape


@dataclass(frozen=True)
class Loaded:
    """What an engine consists of, tokenizer and adapters aside; see there."""

    runner: ModelRunner
    scheduler: Scheduler
    weights: WeightSlots
    layers: LoraLayers


def meet(config: EngineConfig, model_config: ModelConfig, model: LocalModel, parallel: Parallel) -> Ranks:
    """Check that the model can be shared out, then meet the other ranks; reads no weights.

    Raises:
        ConfigError: it can't be shared out among so many, or not with these settings.
        DependencyError: a device can't be had, or the others don't come.
    """
    check_sizes(load_shape(model, model_config), parallel.size, str(model.path / "config.json"))
    if config.compile:
        raise ConfigError(
            "engine.compile can't compile the sums between processes",
            where="engine.compile",
            mend="set engine.compile=false, or use a tensor parallelism of 1",
        )
    device = _device(config, parallel.rank)
    if device.type == "cpu" and not config.threads:
        torch.set_num_threads(max(1, torch.get_num_threads() // parallel.size))
    return Ranks(parallel, device)


def load(config: EngineConfig, model_config: ModelConfig, model: LocalModel, ranks: Ranks | None) -> Loaded:
    """Load a model and size its cache; raises as :meth:`asynckit.engine.engine.Engine.load` does."""
    device = _device(config, ranks.rank) if ranks else choose_device(config)
    check_compile(config, device)
    network = load_model(
        model.path,
        dtype=choose_dtype(config, device),
        device=torch.device("cpu") if ranks else device,  # a GPU may have room for a share only
        trust_remote_code=model_config.trust_remote_code,
    )
    weights = WeightSlots(network)
    expected = own_logits(network, [TRIAL]) if ranks else None
    shards = Shards(network, weights, ranks, model.path) if ranks else None
    network.to(device)
    longest = max_model_len(config, int(network.config.max_position_embeddings))
    shape = cache_shape(network.config, ranks.size if ranks else 1)
    sharers = ranks.size if ranks and device.type == "cpu" else 1
    blocks = block_count(config, longest, shape.bytes_per_token(network.dtype.itemsize), device, sharers)
    kernels = speed_up(network, shape, weights, config, model_config)
    weights.add_parameters(network)
    if config.deterministic:
        make_deterministic(network, kernels, config.block_size)
    if config.compile:
        compile_layers(network)
    if ranks and shards and expected is not None:
        ranks.agree((replace(config, threads=None), longest, network.dtype, model.digest), loading=True)
        blocks = ranks.least(blocks)
        shards.sum_up(network)
        check_shares(network, expected, str(model.path))
    replays = config.cuda_graphs and device.type == "cuda" and not ranks
    spare = int(replays)  # a block for the graphs' rows that no sequence needs
    cache = KVCache(shape, blocks + spare, config.block_size, network.dtype, device)
    new_capture = partial(CudaCapture, device)
    graphs = None
    if replays:
        skipped = not config.lora_compute
        graphs = DecodeGraphs(
            network, cache, config.block_size, config.max_running, new_capture, adapters_skipped=skipped
        )
    scheduler = Scheduler(
        BlockPool(blocks, config.block_size),
        max_running=config.max_running,
        max_step_tokens=config.max_step_tokens,
        max_model_len=longest,
        prefill_chunk=prefill_chunk(config, device),
    )
    runner = ModelRunner(network, cache, config.block_size, kernels, graphs, config.compile)
    check_against_own_code(runner, str(model.path))
    return Loaded(runner, scheduler, weights, LoraLayers(network, kernels, shards))


def _device(config: EngineConfig, rank: int) -> torch.device:
    """Where a rank runs: with several GPUs in sight, each has its own."""
    device = choose_device(config)
    return torch.device("cuda", rank % torch.cuda.device_count()) if device.type == "cuda" else device
