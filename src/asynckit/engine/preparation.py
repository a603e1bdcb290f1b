"""What happens to a model between being read and being run: faster layers, fixed shapes, room for a cache."""

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from asynckit.engine.config import EngineConfig
from asynckit.engine.deterministic import fix_shapes
from asynckit.engine.kv_cache import CacheShape
from asynckit.engine.linear import PackedLinear, optimize
from asynckit.engine.memory import available_bytes, keep_freed_memory
from asynckit.engine.model import cache_shape
from asynckit.engine.native import Kernels, load_kernels, supports
from asynckit.engine.native_layers import speed_up_attention
from asynckit.engine.weights import WeightSlots
from asynckit.errors import ConfigError, DependencyError
from asynckit.models.config import ModelConfig

# Measured on two cores: fewer tokens cost throughput, more let others wait longer; see docs/scheduler.md.
_CPU_CHUNK = 256


def speed_up(
    network: PreTrainedModel,
    shape: CacheShape,
    weights: WeightSlots,
    config: EngineConfig,
    model_config: ModelConfig,
) -> Kernels | None:
    """Make a CPU model's layers fast; returns the kernels for its type, if there are any."""
    if network.device.type != "cpu" or not config.optimize:
        return None
    keep_freed_memory()
    kernels = load_kernels(network.dtype, model_config.cache_dir)
    optimize(network, kernels, weights)
    if kernels:
        speed_up_attention(network, shape, network.dtype)
    return kernels


def make_deterministic(network: PreTrainedModel, kernels: Kernels | None, block_size: int) -> None:
    """Let every row have the same result in whatever company.

    Raises:
        DependencyError: this model, CPU or configuration has no way to do that.
    """
    packed = any(isinstance(module, PackedLinear) for module in network.modules())
    odd = any(isinstance(module, Conv1D) for module in network.modules())
    if not (kernels and packed and supports(cache_shape(network.config).head_dim, block_size)) or odd:
        raise DependencyError(
            "engine.deterministic needs packed weights and the compiled attention kernel, which this model, "
            "CPU or configuration does not allow",
            where="engine.deterministic",
            mend="run a Llama-like model in bfloat16 or float32 on a CPU with a C compiler, with "
            "engine.optimize=true and an engine.block_size divisible by 16",
        )
    fix_shapes(network, network.dtype)


def max_model_len(config: EngineConfig, models_own: int) -> int:
    """Tokens that prompt and response may have together.

    Raises:
        ConfigError: more are asked for than the model was made for.
    """
    if config.max_model_len is None:
        return models_own
    if config.max_model_len > models_own:
        raise ConfigError(
            f"engine.max_model_len is {config.max_model_len}, but the model was made for {models_own} tokens",
            mend=f"set it to {models_own} or less",
        )
    return config.max_model_len


def prefill_chunk(config: EngineConfig, device: torch.device) -> int:
    """Prompt tokens of a step while others generate: as configured, else what the device is fast at."""
    return config.prefill_chunk or (_CPU_CHUNK if device.type == "cpu" else config.max_step_tokens)


def block_count(
    config: EngineConfig, longest: int, bytes_per_token: int, device: torch.device, sharers: int = 1
) -> int:
    """Blocks that the cache gets: as configured, else what half of the free memory holds.

    Of that memory each of so many ``sharers`` gets as much.

    Never more than ``max_running`` sequences of the longest kind can use.

    Raises:
        ConfigError: there is no room for one block.
    """
    if config.kv_cache_tokens:
        return max(1, config.kv_cache_tokens // config.block_size)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_bytes()
    per_sequence = -(-longest // config.block_size) + 1
    blocks = min(
        free // 2 // sharers // (bytes_per_token * config.block_size), per_sequence * config.max_running
    )
    if blocks < 1:
        raise ConfigError(
            f"{free / 2**20:.0f} MiB of free memory hold no KV cache",
            mend="free memory or set engine.kv_cache_tokens",
        )
    return blocks
