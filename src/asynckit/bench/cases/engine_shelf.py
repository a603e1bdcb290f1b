"""The engine that several cases share: one at a time is loaded, and only when a case is measured.

Its adapters are written and registered when the first case asks for them.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from asynckit.bench.subject import Subject
from asynckit.engine.config import EngineConfig
from asynckit.errors import AsynckitError

if TYPE_CHECKING:
    from asynckit.engine.adapter_files import LayerSize
    from asynckit.engine.engine import Engine

_ADAPTERS = 4
_RANK = 16


class EngineShelf:
    """Loads the engine of a subject with or without the arithmetic of adapters, and knows its adapters.

    Args:
        subject: must have weights.
        config: of the engine; sizes of its cache and batch are this module's business.
        kv_cache_tokens: that the cases need at most.
        batch: sequences that they run at most.
        seed: of the adapters' numbers.

    Attributes:
        adapters: how many there are.
        rank: of each.
        unseen: numbers of prompts, each of which comes once: a prompt that the engine has seen costs less.
    """

    def __init__(
        self, subject: Subject, config: EngineConfig, *, kv_cache_tokens: int, batch: int, seed: int
    ) -> None:
        self._subject = subject
        self._config = replace(config, kv_cache_tokens=kv_cache_tokens, max_running=batch)
        self._seed = seed
        self.adapters = min(_ADAPTERS, config.max_loras)
        self.rank = min(_RANK, config.max_lora_rank)
        self.unseen = count(seed)
        self._engine: Engine | None = None
        self._lora_compute: bool | None = None
        self._refused: AsynckitError | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def engine(self, device: str, *, lora_compute: bool = True) -> "Engine":
        """The engine, loaded anew where its adapters' arithmetic is to be the other way.

        Raises:
            AsynckitError: as :meth:`asynckit.engine.engine.Engine.load` does.
        """
        if self._refused:  # a model that can't be run is not read again for every case
            raise self._refused
        if self._engine is None or self._lora_compute != lora_compute:
            self._drop()
            self._engine = self._load(replace(self._config, device=device, lora_compute=lora_compute))
            self._lora_compute = lora_compute
        return self._engine

    def register(self, engine: "Engine") -> list[str]:
        """The names of the adapters, which the engine knows from now on.

        Raises:
            InputError: there is no room for one of them.
        """
        names = [f"adapter-{index}" for index in range(self.adapters)]
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="asynckit-bench-")
            for index, name in enumerate(names):
                self._write(engine.adapters.layers, Path(self._folder.name) / name, self._seed + index)
        known = engine.adapters.names()
        for name in names:
            if name not in known:
                engine.adapters.register(name, Path(self._folder.name) / name)
        return names

    def close(self) -> None:
        """Free the engine and the adapters' files."""
        self._drop()
        if self._folder:
            self._folder.cleanup()
            self._folder = None

    def _load(self, config: EngineConfig) -> "Engine":
        from asynckit.engine.engine import Engine

        assert self._subject.local, "the suite leaves such cases out"
        try:
            return Engine.load(config, self._subject.config, self._subject.local)
        except AsynckitError as error:
            self._refused = error
            raise

    def _drop(self) -> None:
        if self._engine:
            self._engine.close()
        self._engine = self._lora_compute = None

    def _write(self, layers: Mapping[str, "LayerSize"], folder: Path, seed: int) -> None:
        """An adapter of random numbers on every linear layer of the model."""
        import torch
        from safetensors.torch import save_file

        generator = torch.Generator().manual_seed(seed)
        weights = {}
        for name, size in layers.items():
            key = f"base_model.model.{name}.lora_"
            weights[f"{key}A.weight"] = torch.randn(self.rank, size.inputs, generator=generator) / 100
            weights[f"{key}B.weight"] = torch.randn(size.outputs, self.rank, generator=generator) / 100
        folder.mkdir()
        save_file(weights, folder / "adapter_model.safetensors")
        config = {
            "peft_type": "LORA",
            "r": self.rank,
            "lora_alpha": 2 * self.rank,
            "target_modules": sorted({name.rpartition(".")[2] for name in layers}),
            "fan_in_fan_out": any(size.transposed for size in layers.values()),
        }
        (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
