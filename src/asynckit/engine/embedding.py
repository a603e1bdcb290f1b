"""Prompts to vectors, by a model whose folder says how sentence-transformers makes one of its hidden states.

``modules.json`` lists what follows on each other there: the model, its pooling, and maybe a normalization.
Prompts pass through the model beside the scheduler, some at a time, over a small cache of their own.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from asynckit.engine.kv_cache import KVCache
from asynckit.engine.model import ModelRunner
from asynckit.engine.plan import Chunk, Plan
from asynckit.engine.request import Request
from asynckit.engine.request import Sequence as Sample
from asynckit.errors import InputError, WorkFailed

Prompt = Sequence[int]


@dataclass(frozen=True)
class Pooling:
    """How the hidden states of a prompt become a vector.

    Attributes:
        mean: whether it is their mean; the last one otherwise.
        normalize: whether the vector is given the length 1.
    """

    mean: bool
    normalize: bool


def read_pooling(folder: Path) -> Pooling | None:
    """What a model's folder says; None if it says nothing, or asks for what we don't do.

    Raises:
        InputError: a file is broken.
    """
    path = folder / "modules.json"
    modules = _read(path) if path.is_file() else None
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        return None
    kinds = [str(module.get("type")).rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None
    options = folder / str(modules[1].get("path")) / "config.json"
    if modules[0].get("path") or not options.is_file():
        return None
    mode = _mode(_read(options))
    return None if mode is None else Pooling(mode == "mean", len(kinds) == 3)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise InputError(
            f"not JSON: {error}", where=str(path), mend="save or fetch the file again"
        ) from error


def _mode(options: Any) -> str | None:
    """``mean`` or ``lasttoken``, as a pooling's options say; None for anything else."""
    if not isinstance(options, dict):
        return None
    named = options.get("pooling_mode")  # as newer versions write it
    prefix = "pooling_mode_"
    modes = (
        [named] if named else [name.removeprefix(prefix) for name in options if _on(options, name, prefix)]
    )
    if modes == ["lasttoken"]:
        return "lasttoken"
    # Without include_prompt an instruction in front of the text stays out of the mean.
    return "mean" if modes in (["mean"], ["mean_tokens"]) and options.get("include_prompt", True) else None


def _on(options: dict[str, Any], name: str, prefix: str) -> bool:
    return name.startswith(prefix) and options[name] is True


@torch.inference_mode()
def embed(
    runner: ModelRunner, prompts: Sequence[Prompt], pooling: Pooling, most_tokens: int
) -> list[list[float]]:
    """A vector for each prompt.

    Args:
        runner: the model; its own cache is left alone.
        prompts: token ids, at least one each, within the model's limits.
        pooling: how hidden states become vectors.
        most_tokens: of one pass; a longer prompt takes several.

    Raises:
        WorkFailed: a vector holds something that is no finite number.
    """
    vectors: list[list[float]] = []
    for group in _groups(prompts, most_tokens):
        vectors += _embed(runner, group, pooling, most_tokens)
    if not all(math.isfinite(sum(vector)) for vector in vectors):
        raise WorkFailed("the model's hidden states are not finite")
    return vectors


def _groups(prompts: Sequence[Prompt], most_tokens: int) -> Iterator[list[Prompt]]:
    """The prompts in order, as many at a time as fit one pass; one that doesn't comes alone."""
    group: list[Prompt] = []
    for prompt in prompts:
        if group and sum(map(len, group)) + len(prompt) > most_tokens:
            yield group
            group = []
        group.append(prompt)
    if group:
        yield group


def _embed(
    runner: ModelRunner, prompts: list[Prompt], pooling: Pooling, most_tokens: int
) -> list[list[float]]:
    samples = _samples(prompts, runner.block_size)
    blocks = sum(len(sample.blocks) for sample in samples)
    own, device = runner.cache, runner.cache.keys.device
    cache = KVCache(own.shape, blocks, runner.block_size, own.keys.dtype, device)
    runner = replace(runner, cache=cache, graphs=None)
    pooled: list[torch.Tensor] = [torch.zeros((), device=device)] * len(prompts)
    for begin in range(0, max(map(len, prompts)), most_tokens):
        ends = [min(len(prompt), begin + most_tokens) for prompt in prompts]
        chunks = [Chunk(s, begin, end - begin, samples=False) for s, end in zip(samples, ends, strict=True)]
        hidden_TD = runner.hidden(Plan(tuple(chunks), ())).float()
        parts = hidden_TD.split([chunk.length for chunk in chunks])  # type: ignore[no-untyped-call]
        for index, part_TD in enumerate(parts):
            pooled[index] = pooled[index] + part_TD.sum(0) if pooling.mean else part_TD[-1]
    vector_ND = torch.stack(pooled)
    if pooling.mean:
        vector_ND /= torch.tensor([[len(prompt)] for prompt in prompts], device=device)
    if pooling.normalize:
        vector_ND = torch.nn.functional.normalize(vector_ND, dim=-1)
    vectors: list[list[float]] = vector_ND.tolist()
    return vectors


def _samples(prompts: Sequence[Prompt], block_size: int) -> list[Sample]:
    """Sequences over blocks of their own, side by side."""
    samples, free = [], 0
    for prompt in prompts:
        sample = Sample(Request("embed", tuple(prompt)), 0, list(prompt))
        need = -(-len(prompt) // block_size)
        sample.blocks = list(range(free, free + need))
        free += need
        samples.append(sample)
    return samples
