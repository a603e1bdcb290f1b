"""The config of a LoRA adapter, as PEFT writes it: what it changes, and by how much.

An option is either understood, or known to change nothing here, or an error: DoRA, biases, parts of the model
that were trained along and whatever comes next would otherwise be left out in silence.
"""

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from asynckit.errors import InputError
from asynckit.models.local import read_json

NAME = "adapter_config.json"
# Initializations that leave the model's own weights as they are; others take the adapter out of them.
_PLAIN_INITS = (True, False, "gaussian", "eva", "orthogonal")
# Options without influence on what a trained adapter computes.
_IRRELEVANT = (
    *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode"),
    *("lora_dropout", "runtime_config", "megatron_core", "qalora_group_size", "loftq_config", "eva_config"),
)

Names = list[str]
Rank = Annotated[int, msgspec.Meta(ge=1)]


class PeftConfig(msgspec.Struct, frozen=True):
    """The options that matter; names and meaning are PEFT's."""

    r: Rank
    lora_alpha: float
    target_modules: Names | str
    peft_type: str = ""
    use_rslora: bool = False
    rank_pattern: dict[str, Rank] | None = None
    alpha_pattern: dict[str, float] | None = None
    exclude_modules: Names | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: Names | str | None = None
    fan_in_fan_out: bool = False
    bias: str = "none"
    init_lora_weights: bool | str = True

    def rank(self, layer: str) -> int:
        """Rank of the update of one layer."""
        return int(_by_pattern(self.rank_pattern, layer, self.r))

    def scale(self, layer: str) -> float:
        """Factor on the update of one layer."""
        rank = self.rank(layer)
        alpha = float(_by_pattern(self.alpha_pattern, layer, self.lora_alpha))
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def targets(self, layers: Iterable[str]) -> tuple[str, ...]:
        """Those of ``layers`` that PEFT would wrap."""
        indexes = self.layers_to_transform
        return _matching(
            tuple(layers),
            _frozen(self.target_modules),
            _frozen(self.exclude_modules or ()),
            _frozen([indexes] if isinstance(indexes, int) else indexes or ()),
            _frozen(self.layers_pattern or ()),
        )


def read_config(folder: Path) -> PeftConfig:
    """Read an adapter's config.

    Raises:
        InputError: there is none, it is broken, or it asks for what the engine can't do.
    """
    path = folder / NAME
    if not path.is_file():
        raise InputError(
            f"the folder has no {NAME}" if folder.is_dir() else "there is no such adapter folder",
            where=str(folder),
            mend="name the folder that PEFT saved the adapter to",
        )
    raw = read_json(path)
    try:
        config = msgspec.convert(raw, PeftConfig)
        _compile_patterns(config)
    except (msgspec.ValidationError, re.error) as error:
        raise InputError(f"not the config of a LoRA adapter: {error}", where=str(path)) from error
    if problem := _unsupported(config, raw):
        raise InputError(f"the engine can't use this adapter: {problem}", where=str(path))
    return config


def _compile_patterns(config: PeftConfig) -> None:
    several = (config.rank_pattern or {}, config.alpha_pattern or {}, _listed(config.layers_pattern))
    single = [p for p in (config.target_modules, config.exclude_modules) if isinstance(p, str)]
    for pattern in (*single, *(key for keys in several for key in keys)):
        re.compile(pattern)


def _listed(names: Names | str | None) -> Names:
    return [names] if isinstance(names, str) else names or []


def _unsupported(config: PeftConfig, raw: Mapping[str, Any]) -> str:
    if config.peft_type != "LORA":
        return f"its peft_type is {config.peft_type or 'missing'}, not LORA"
    if config.bias != "none":
        return f"it has biases of its own (bias is {config.bias})"
    if config.init_lora_weights not in _PLAIN_INITS:
        return f"it changes the model's own weights (init_lora_weights is {config.init_lora_weights})"
    if not all(map(math.isfinite, (config.lora_alpha, *(config.alpha_pattern or {}).values()))):
        return "lora_alpha is not a finite number"
    known = {*_IRRELEVANT, *PeftConfig.__struct_fields__}
    unknown = next((key for key, value in raw.items() if value and key not in known), None)
    return f"{unknown} is set to {raw[unknown]!r}" if unknown else ""


def _by_pattern(patterns: Mapping[str, float] | None, layer: str, default: float) -> float:
    matching = (value for key, value in (patterns or {}).items() if re.match(rf"(.*\.)?({key})$", layer))
    return next(matching, default)


def _frozen(value: str | Iterable[Any]) -> Any:
    return value if isinstance(value, str) else tuple(value)


@functools.lru_cache(maxsize=16)  # adapters come in families that differ in their weights only
def _matching(
    layers: tuple[str, ...],
    targets: tuple[str, ...] | str,
    excluded: tuple[str, ...] | str,
    indexes: tuple[int, ...],
    patterns: tuple[str, ...] | str,
) -> tuple[str, ...]:
    wanted, unwanted = _matcher(targets), _matcher(excluded)
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    return tuple(
        layer
        for layer in layers
        if wanted(layer) and not unwanted(layer) and (not indexes or _index(layer, patterns) in indexes)
    )


def _matcher(targets: tuple[str, ...] | str) -> Callable[[str], bool]:
    if targets == "all-linear":
        return lambda _: True
    if isinstance(targets, str):
        pattern = re.compile(targets)
        return lambda layer: pattern.fullmatch(layer) is not None
    exact, endings = frozenset(targets), tuple(f".{target}" for target in targets)
    return lambda layer: layer in exact or layer.endswith(endings)


def _index(layer: str, patterns: tuple[str, ...]) -> int | None:
    """The first number in a layer's name that follows one of ``patterns``, or anything."""
    for pattern in patterns or (r"[^.]*",):
        if match := re.match(rf"(?:.*?\.)?{pattern}\.(?P<index>\d+)\.", layer):
            return int(match["index"])
    return None
