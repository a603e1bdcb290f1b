"""Which generator a run asks for, and what that needs of the model."""

from functools import partial
from typing import Any

from asynckit.engine.driver import EngineDriver
from asynckit.engine.simulated import SimulatedEngine
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import LocalModel, resolve_model, resolve_tokenizer
from asynckit.rollout.engines.generator import Generator
from asynckit.rollout.job import Job

_LOADS_WEIGHTS = ("torch", "vllm")


def find_model(model: ModelConfig, engine: str, *, progress: bool = False) -> LocalModel | None:
    """Bring what a run needs of its model to this machine: all of it, or the tokenizer alone.

    Args:
        model: the model's section of the configuration.
        engine: ``rollout.engine``.
        progress: show on stderr what takes long.

    Returns:
        The model where this machine computes with its weights, else None.

    Raises:
        AsynckitError: as :func:`asynckit.models.resolve.resolve_model` does.
    """
    if engine in _LOADS_WEIGHTS:
        return resolve_model(model, progress=progress)
    resolve_tokenizer(model, progress=progress)
    return None


async def open_generator(job: Job, local: LocalModel | None, tokenizer: Any) -> Generator:
    """The generator that a run asks for, ready to work on this event loop.

    Args:
        job: the run.
        local: what ``find_model`` returned.
        tokenizer: of the run.

    Raises:
        AsynckitError: it can't be had.
    """
    if job.rollout.engine == "simulated":
        simulated = SimulatedEngine.load(job.engine, job.simulated)
        return EngineDriver(simulated, simulated.clock)
    if job.rollout.engine == "openai":
        from asynckit.rollout.engines.openai_engine import OpenAIGenerator

        return await OpenAIGenerator.open(job.openai, job.sampling, tokenizer)
    assert local
    if job.rollout.engine == "vllm":
        from asynckit.rollout.engines.vllm_engine import VLLMGenerator

        return await VLLMGenerator.open(job.engine, job.model, local, job.sampling, tokenizer)
    from asynckit.engine.engine import Engine  # imports torch, which the others do without

    return await EngineDriver.load(partial(Engine.load, job.engine, job.model, local))
