"""The model's layers compiled by torch.compile (``engine.compile``).

Each decoder layer is compiled by itself, for any number of rows, and attention stays outside of it: what it
does depends on lists that differ in every pass. So the compiler fuses what lies between the products: norms,
rotary angles, gates, additions.
"""

import os
import shutil
from contextlib import AbstractContextManager

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from asynckit.engine.attention import NAME, attend
from asynckit.engine.config import EngineConfig
from asynckit.errors import ConfigError, DependencyError

_COMPILERS = {"cpu": ("CXX", "g++", "clang++"), "cuda": ("CC", "gcc", "clang")}


def check_compile(config: EngineConfig, device: torch.device) -> None:
    """Refuse ``engine.compile`` where it can't work.

    Raises:
        ConfigError: with the CPU's own kernels, which can't be traced.
        DependencyError: torch.compile finds no compiler.
    """
    if not config.compile:
        return
    if device.type == "cpu" and config.optimize:
        raise ConfigError(
            "engine.compile can't trace the kernels that engine.optimize puts into a model on a CPU",
            where="engine.compile",
            mend="set engine.optimize=false, or leave engine.compile off: on a CPU that is faster",
        )
    variable, *names = _COMPILERS[device.type]
    names = [os.environ[variable]] if os.environ.get(variable) else names
    if not any(map(shutil.which, names)):
        raise DependencyError(
            f"torch.compile needs a compiler, and there is no {' or '.join(names)} on this machine",
            where="engine.compile",
            mend=f"install one, let {variable} name it, or set engine.compile=false",
        )


def compile_layers(model: PreTrainedModel) -> None:
    """Let the model's decoder layers be compiled at their first pass; all weights and names stay.

    Raises:
        ConfigError: the model's class doesn't say which its layers are.
    """
    AttentionInterface.register(NAME, torch.compiler.disable(attend))  # type: ignore[no-untyped-call]
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        layer.compile(dynamic=True)
    if not layers:
        raise ConfigError(
            f"torch.compile finds no decoder layers in a {type(model).__name__}",
            where="engine.compile",
            mend="set engine.compile=false",
        )


def plainly() -> AbstractContextManager[object]:
    """Inside, compiled layers run as the code that they were compiled from.

    Adapters need that: they hook into layers after these were compiled, and compiled code knows no hooks that
    came later.
    """
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance
