"""Hugging Face model classes made ready to step: loaded, checked, and run over one packed row of tokens."""

import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from asynckit.engine.attention import NAME, Batch, Span
from asynckit.engine.compiled import plainly
from asynckit.engine.config import EngineConfig
from asynckit.engine.decode_graphs import DecodeGraphs
from asynckit.engine.kv_cache import CacheShape, KVCache
from asynckit.engine.native import Kernels, supports
from asynckit.engine.native_attention import NativeBatch
from asynckit.engine.packed_pass import hidden_packed, run_packed
from asynckit.engine.plan import Plan
from asynckit.engine.prompt_scores import logit_rows
from asynckit.engine.staging import integers
from asynckit.engine.torch_attention import TorchBatch
from asynckit.errors import DependencyError, InputError
from asynckit.models.gguf import quiet_transformers

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(config: EngineConfig) -> torch.device:
    """The device to run on.

    Raises:
        DependencyError: CUDA is asked for and can't be had.
    """
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.device == "cuda" and not torch.cuda.is_available():
        reason = (
            "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no usable GPU"
        )
        if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
            reason = "CUDA_VISIBLE_DEVICES hides every GPU"
        raise DependencyError(f"engine.device is cuda, but {reason}", mend="use engine.device=cpu or auto")
    return torch.device(config.device)


def choose_dtype(config: EngineConfig, device: torch.device) -> torch.dtype:
    """The precision to run in: bfloat16 where the hardware computes in it, else float32."""
    if config.dtype != "auto":
        return _DTYPES[config.dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def load_model(
    path: Path, *, dtype: torch.dtype, device: torch.device, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Load a decoder-only model with our attention in it.

    Args:
        path: a local model folder.
        dtype: precision of the weights.
        device: where they go.
        trust_remote_code: whether code in the folder may run.

    Raises:
        InputError: the folder holds something other than a decoder-only causal language model that we can run
            right.
    """
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        refuse_unsupported(config, path)
        with quiet_transformers(progress=False):
            model = AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype, attn_implementation=NAME, trust_remote_code=trust_remote_code
            )
    except (ValueError, KeyError, RuntimeError, OSError, SafetensorError) as error:
        reason = "its class takes no outside attention function" if NAME in str(error) else str(error)
        raise InputError(
            f"the engine can't load this as a causal language model: {reason}",
            where=str(path),
            mend="use a whole copy of a model such as Llama, Qwen, Mistral or Gemma",
        ) from error
    if not getattr(model, "_supports_attention_backend", False):
        raise InputError(
            f"the engine can't run this model: {type(model).__name__} takes no outside attention function",
            where=str(path),
            mend="use a model whose transformers class does, e.g. Llama, Qwen or Mistral",
        )
    return model.to(device).eval()


def refuse_unsupported(config: Any, path: Path) -> None:
    """Refuse what would load and then compute something else than the model's own code.

    Raises:
        InputError: the model's config asks for it.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    reason = ""
    if getattr(config, "is_encoder_decoder", False):
        reason = "it is an encoder-decoder model"
    elif getattr(config, "attn_logit_softcapping", None):
        reason = "it caps attention scores (attn_logit_softcapping)"
    elif (getattr(config, "rope_parameters", None) or {}).get("rope_type") in ("longrope", "dynamic"):
        reason = "its rotary embedding depends on the length of the whole batch (longrope, dynamic)"
    elif kinds - {"full_attention", "sliding_attention"}:
        reason = f"it has layers of other kinds than attention ({', '.join(sorted(kinds))})"
    elif getattr(config, "kv_lora_rank", None):
        reason = "it compresses keys and values (multi-head latent attention)"
    if reason:
        raise InputError(f"the engine can't run this model: {reason}", where=str(path / "config.json"))


def cache_shape(config: Any, ranks: int = 1) -> CacheShape:
    """Sizes of the KV cache that a model's config asks for, of each of ``ranks`` that share it."""
    heads = config.num_attention_heads
    return CacheShape(
        layers=config.num_hidden_layers,
        kv_heads=(getattr(config, "num_key_value_heads", None) or heads) // ranks,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
    )


@dataclass(frozen=True)
class ModelRunner:
    """Runs the forward pass of a plan.

    Attributes:
        model: a model from :func:`load_model`.
        cache: its KV cache.
        block_size: tokens per block of the cache.
        kernels: C kernels, where the model runs on a CPU that has them.
        graphs: replay decode steps, where the model runs on a GPU.
        compiled: whether the model's layers are compiled by torch.compile.
    """

    model: PreTrainedModel
    cache: KVCache
    block_size: int
    kernels: Kernels | None = None
    graphs: DecodeGraphs | None = None
    compiled: bool = False

    @torch.inference_mode()
    def forward(self, plan: Plan) -> torch.Tensor:
        """Run the pass; returns the logits ``[S, V]`` of rows that sample or are scored, in plan order."""
        for source, target in plan.copies:
            self.cache.copy(source, target)
        self.cache.clear(self._begun(plan))
        if self.graphs and (logits_SV := self.graphs.run(plan.chunks)) is not None:
            return logits_SV
        token_T, position_T, wanted_S, spans = self._rows(plan)
        every = len(wanted_S) == len(token_T)
        adapted = any(chunk.sequence.adapter is not None for chunk in plan.chunks)
        with plainly() if adapted and self.compiled else nullcontext():
            return run_packed(
                self.model, token_T, position_T, self._batch(spans), None if every else wanted_S
            )

    @torch.inference_mode()
    def hidden(self, plan: Plan) -> torch.Tensor:
        """Run the pass of a plan without copies; returns the last hidden states ``[T, D]`` of all rows."""
        self.cache.clear(self._begun(plan))
        token_T, position_T, _, spans = self._rows(plan)
        return hidden_packed(self.model, token_T, position_T, self._batch(spans))

    def _rows(self, plan: Plan) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[Span]]:
        """Tokens, positions, the rows whose logits are wanted, and whose rows they are."""
        tokens: list[int] = []
        positions: list[int] = []
        wanted_rows: list[int] = []
        spans: list[Span] = []
        for chunk in plan.chunks:
            span = Span(len(tokens), chunk.length, chunk.start, chunk.sequence.blocks)
            spans.append(span)
            tokens += chunk.sequence.tokens[span.start : span.end]
            positions += range(span.start, span.end)
            wanted_rows += range(len(tokens) - logit_rows(chunk), len(tokens))
        return (*integers(self.cache.keys.device, tokens, positions, wanted_rows), spans)  # type: ignore[return-value]

    def _begun(self, plan: Plan) -> list[int]:
        """The blocks whose first token this pass writes.

        What a former owner left in them may not be finite, and attention multiplies what lies past a context
        by zero: a NaN would survive that.
        """
        size = self.block_size
        return [
            block
            for chunk in plan.chunks
            for block in chunk.sequence.blocks[
                -(-chunk.start // size) : -(-(chunk.start + chunk.length) // size)
            ]
        ]

    def weights_changed(self) -> None:
        """Say that the model has new weights."""
        if self.graphs:
            self.graphs.weights_changed()

    def _batch(self, spans: list[Span]) -> Batch:
        shape = self.cache.shape
        if self.kernels is None or not supports(shape.head_dim, self.block_size):
            return TorchBatch.of(self.cache, self.block_size, spans)
        config = self.model.config
        group = config.num_attention_heads // cache_shape(config).kv_heads
        return NativeBatch(self.cache, self.block_size, spans, self.kernels, group)
