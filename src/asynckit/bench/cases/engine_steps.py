"""What the engine does: decode steps, prefills, LoRA adapters, new weights.

All of it is timed by the host's clock: a step decides on the CPU what to run, runs it, and ends with tokens
on the host.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asynckit.bench.cases.case import Case, Prepared
from asynckit.bench.cases.decoding import LONGEST_RESPONSE, WINDOW, Decoding, drain, prefill_request
from asynckit.bench.cases.engine_shelf import EngineShelf
from asynckit.bench.counting import Counts, decode_parts, prefill_parts, total, weight_update
from asynckit.bench.prediction import ITEMSIZE
from asynckit.bench.subject import NO_WEIGHTS, Subject
from asynckit.models.local import weight_files

if TYPE_CHECKING:
    import torch

    from asynckit.engine.engine import Engine
    from asynckit.engine.request import Request

BATCHES = (1, 8, 64)
_LORA_BATCH = 8
# One more than whole blocks of the KV cache, so that a prompt which is known costs one token to begin again.
_PROMPT = {"cpu": 129, "cuda": 513}
_PREFILLS = {"cpu": (128, 512), "cuda": (512, 2048)}


@dataclass(frozen=True)
class EngineCases:
    """Makes them, all for one engine.

    Attributes:
        subject: the model.
        shelf: where its engine is; None where the model has no weights.
        dtype: that the engine runs in.
        device: ``cuda`` or ``cpu``.
        seed: of prompts.
        longest: tokens of a sequence.
        lora_compute: whether adapters are computed in all cases but the one that skips them.
    """

    subject: Subject
    shelf: EngineShelf | None
    dtype: str
    device: str
    seed: int
    longest: int
    lora_compute: bool = True

    def decode(self) -> list[Case]:
        """A step of some batches."""
        cases = [self._decode("decode", f"B={batch}", "engine", batch) for batch in BATCHES]
        return [case for case in cases if case]

    def prefill(self) -> list[Case]:
        """A prompt, and the first token after it."""
        longest = self.longest - 1
        return [
            self._prefill(tokens)
            for tokens in sorted({min(each, longest) for each in _PREFILLS[self.device]})
        ]

    def lora(self) -> list[Case]:
        """A decode step without adapters, with them, and with them loaded but their arithmetic left out."""
        kinds = ["off", *(["on"] if self.lora_compute else []), "skipped"]
        cases = [self._decode("lora", f"{kind} B={_LORA_BATCH}", "lora", _LORA_BATCH, kind) for kind in kinds]
        return [case for case in cases if case]

    def update(self) -> list[Case]:
        """New weights from memory, and from the model's files."""
        return [self._update("memory"), self._update("files")]

    @property
    def prompt(self) -> int:
        """Tokens of the prompts that decode steps go on from."""
        return prompt_tokens(self.device, self.longest)

    def _decode(self, name: str, variant: str, group: str, batch: int, lora: str = "off") -> Case | None:
        if self.prompt < 1:
            return None
        context = self.prompt + WINDOW // 2
        parameters: dict[str, Any] = {"batch": batch, "context": context, "dtype": self.dtype}
        if lora != "off" and self.shelf:
            parameters |= {"adapters": min(batch, self.shelf.adapters), "rank": self.shelf.rank}
        computed = self.lora_compute and lora != "skipped"
        return Case(
            name=name,
            variant=f"{variant} {self.dtype}",
            group=group,
            make=partial(self._make_decode, batch, lora != "off", computed),
            counts=self._count(decode_parts, batch, context, tokens=batch),
            parameters=parameters,
            missing=self._missing,
            clock="host",
            cache="cold",  # then each call is a repetition of its own, and finds the engine made ready for it
        )

    def _prefill(self, tokens: int) -> Case:
        return Case(
            name="prefill",
            variant=f"T={tokens} {self.dtype}",
            group="engine",
            make=partial(self._make_prefill, tokens),
            counts=self._count(prefill_parts, tokens, tokens=tokens),
            parameters={"batch": 1, "context": tokens, "dtype": self.dtype},
            missing=self._missing,
            clock="host",
        )

    def _update(self, source: str) -> Case:
        size = ITEMSIZE[self.dtype] * _count_weights(self.subject)
        return Case(
            name="weight-update",
            variant=f"from {source} {self.dtype}",
            group="engine",
            make=partial(self._make_update, source),
            counts=weight_update(size) if size else Counts(),
            parameters={"source": source, "dtype": self.dtype},
            missing=self._missing,
            clock="host",
            default=source == "memory",
        )

    @property
    def _missing(self) -> str:
        return "" if self.shelf else NO_WEIGHTS

    def _count(self, parts: Any, *sizes: int, tokens: int) -> Counts:
        shape = self.subject.shape
        if shape.experts:  # of which a step reads as many as its tokens happen to choose
            return Counts(tokens=tokens)
        return total(parts(shape, *sizes, ITEMSIZE[self.dtype]), tokens)

    def _engine(self, device: str, *, lora_compute: bool) -> "Engine":
        assert self.shelf, "such cases say what is missing"
        return self.shelf.engine(device, lora_compute=lora_compute)

    def _make_decode(self, batch: int, adapted: bool, computed: bool, device: str) -> Prepared:
        engine = self._engine(device, lora_compute=computed)
        adapters = self.shelf.register(engine) if adapted and self.shelf else ()
        decoding = Decoding(engine, batch, self.prompt, adapters=adapters, seed=self.seed)
        return Prepared(decoding.step, decoding.ready, decoding.close)

    def _make_prefill(self, tokens: int, device: str) -> Prepared:
        engine = self._engine(device, lora_compute=self.lora_compute)
        assert self.shelf
        setup = partial(_next_request, engine, tokens, self.shelf.unseen)
        return Prepared(partial(_run, engine), setup, partial(drain, engine))

    def _make_update(self, source: str, device: str) -> Prepared:
        engine = self._engine(device, lora_compute=self.lora_compute)
        assert self.subject.local
        folder = self.subject.local.path
        new = folder if source == "files" else _read_weights(folder, self.dtype, device)
        return Prepared(lambda: engine.update_weights(engine.version + 1, new))


def prompt_tokens(device: str, longest: int) -> int:
    """Tokens of the prompts that decode steps go on from; below 1 where there is no room for that."""
    return min(_PROMPT[device], longest - LONGEST_RESPONSE)


def cache_tokens(device: str, longest: int, block_size: int) -> int:
    """Tokens that the cache of the engine must hold."""
    sequence = max(1, prompt_tokens(device, longest)) + LONGEST_RESPONSE + block_size
    return max(max(BATCHES) * sequence, max(_PREFILLS[device]) + block_size)


def _next_request(engine: "Engine", tokens: int, unseen: Iterator[int]) -> "Request":
    return prefill_request(engine, tokens, next(unseen))


def _run(engine: "Engine", request: "Request") -> None:
    """The request from its arrival to its end."""
    engine.add(request)
    drain(engine)


def _count_weights(subject: Subject) -> int:
    """Numbers in the model's files; 0 where there are none."""
    from safetensors import safe_open

    if subject.local is None:
        return 0
    found = 0
    for path in weight_files(subject.local.path):
        with safe_open(path, framework="numpy") as tensors:
            found += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118 - no mapping
    return found


def _read_weights(folder: Path, dtype: str, device: str) -> "dict[str, torch.Tensor]":
    """The model's weights as a learner beside the engine has them."""
    import torch
    from safetensors.torch import load_file

    return {
        name: tensor.to(getattr(torch, dtype))
        for path in weight_files(folder)
        for name, tensor in load_file(path, device=device).items()
    }
