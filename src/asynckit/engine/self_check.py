"""A loaded model is tried before it is used: our pass must compute what the model's own code computes.

Model families differ in ways that no config field announces (attention sinks, causality, extra terms). Two
short prompts in one pass and one token after each are compared with the model's own eager attention, one
prompt at a time. A sliding window would show in long prompts only, so it is asked for instead: some classes
have one in their mask and don't tell the attention function.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from transformers import PreTrainedModel

from asynckit.engine.attention import NAME
from asynckit.engine.compiled import plainly
from asynckit.engine.model import ModelRunner
from asynckit.engine.packed_pass import run_packed
from asynckit.engine.plan import Chunk, Plan
from asynckit.engine.request import Request
from asynckit.engine.request import Sequence as Sample
from asynckit.errors import ConfigError, InputError

TRIAL = [3, 5, 7, 2, 11, 13, 1, 17]
_LENGTHS = (3, 37)
# Largest error of the logits, relative to their spread: rounding stays well below it, another formula well
# above.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}


def check_against_own_code(runner: ModelRunner, where: str) -> None:
    """Compare prefill and decode of a new engine with the model's own forward pass.

    Uses the first blocks of the cache, which must not hold anything yet.

    Raises:
        InputError: they differ: the engine can't run this model right.
        ConfigError: the cache has no room for a few tokens.
    """
    _check_windows(runner, where)
    sequences = _sequences(runner)
    for kind in ("prefill", "decode"):
        try:
            error = _error(runner, sequences)
        except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as problem:
            raise _refusal(f"its {kind} fails: {problem}", where) from problem
        if not error < _TOLERANCE[runner.model.dtype]:
            raise _refusal(f"its {kind} differs from the model's own code by {error:.0%}", where)
        for sequence in sequences:
            sequence.computed = len(sequence.tokens)
            sequence.tokens.append(1)


def _refusal(reason: str, where: str) -> InputError:
    mend = "use a model of a supported family, such as Llama, Qwen, Mistral, Gemma or GPT-2"
    return InputError(f"the engine can't run this model right: {reason}", where=where, mend=mend)


def _error(runner: ModelRunner, sequences: list[Sample]) -> float:
    """Error of our logits relative to the spread of the model's own."""
    chunks = tuple(Chunk(s, s.computed, len(s.tokens) - s.computed, samples=True) for s in sequences)
    with plainly() if runner.compiled else nullcontext():
        expected = own_logits(runner.model, [s.tokens for s in sequences])
    return _difference(runner.forward(Plan(chunks, ())).float(), expected)


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    spread = (expected - expected.mean(-1, keepdim=True)).norm()
    return float((found - expected).norm() / spread)


def _sequences(runner: ModelRunner) -> list[Sample]:
    """Two prompts of different length, each with blocks of its own for one token more."""
    cached, size = runner.cache.keys.shape[1], runner.block_size
    sequences, free = [], 0
    vocabulary = int(runner.model.config.vocab_size)
    for length in _LENGTHS:
        need = length // size + 1
        if free + need > cached:
            break
        tokens = [(7 * position + 3) % vocabulary for position in range(length)]
        sequence = Sample(Request("check", tuple(tokens)), 0, tokens)
        sequence.blocks = list(range(free, free + need))
        sequences.append(sequence)
        free += need
    if not sequences:
        raise ConfigError(
            f"a KV cache of {cached * size} tokens has no room to try the model in",
            where="engine.kv_cache_tokens",
            mend="make it 64 or more",
        )
    return sequences


class _Windows:
    """A batch that attends to nothing and notes the window that each layer asks for."""

    def __init__(self) -> None:
        self.of_layer: dict[int, int | None] = {}

    def attend(
        self,
        layer: int,
        query_THD: torch.Tensor,
        key_TKD: torch.Tensor,  # noqa: ARG002 - part of a batch's interface
        value_TKD: torch.Tensor,  # noqa: ARG002
        scale: float,  # noqa: ARG002
        window: int | None,
    ) -> torch.Tensor:
        """See :class:`asynckit.engine.attention.Batch`."""
        self.of_layer[layer] = window
        return torch.zeros_like(query_THD)


@torch.inference_mode()
def _check_windows(runner: ModelRunner, where: str) -> None:
    """Refuse a model whose config has a sliding window for a layer that does not ask for it."""
    windows, one = _Windows(), torch.zeros(1, dtype=torch.long, device=runner.model.device)
    try:
        with plainly() if runner.compiled else nullcontext():
            run_packed(runner.model, one, one, windows)
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, IndexError) as problem:
        raise _refusal(f"a pass fails: {problem}", where) from problem
    config = runner.model.config
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    for layer, found in windows.of_layer.items():
        wanted = window if kinds[layer] == "sliding_attention" else None
        if wanted is not None and found != wanted:
            raise _refusal(
                f"layer {layer} has a sliding window of {wanted} that its class keeps to itself", where
            )


@torch.inference_mode()
def own_logits(model: PreTrainedModel, prompts: Sequence[list[int]]) -> torch.Tensor:
    """What a model's own code makes of the last token of each prompt: logits ``[B, V]``, float32."""
    model.set_attn_implementation("eager")
    try:
        rows = [
            model(input_ids=torch.tensor([tokens], device=model.device), use_cache=False).logits[0, -1]
            for tokens in prompts
        ]
    finally:
        model.set_attn_implementation(NAME)
    return torch.stack(rows).float()


def check_shares(model: PreTrainedModel, expected: torch.Tensor, where: str) -> None:
    """Compare a model that several processes hold together with what it was in one piece.

    Args:
        model: this process's share, ready to run.
        expected: what the whole model made of :data:`TRIAL`.
        where: the model's folder.

    Raises:
        InputError: they differ.
    """
    try:
        error = _difference(own_logits(model, [TRIAL]), expected.to(model.device))
    except (RuntimeError, ValueError, TypeError, AttributeError) as problem:
        raise _refusal(f"it can't be shared out: {problem}", where) from problem
    if not error < _TOLERANCE[model.dtype]:
        raise _refusal(f"shared out, it differs from the model in one piece by {error:.0%}", where)
