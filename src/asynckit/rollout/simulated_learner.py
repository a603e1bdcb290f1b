"""A learner that learns nothing: it takes batches, works for a given time, and publishes versions.

It makes staleness, weight updates and partial rollouts real where there is nobody to train yet: in tests, in
planning, and for finding out what a run would gain from more asynchrony.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from asynckit.engine.counter import uniform
from asynckit.engine.distributions import parse_distribution
from asynckit.models.config import ModelConfig
from asynckit.rollout.config import LearnerConfig
from asynckit.rollout.group import FinishedGroup

_STREAM = 1  # keeps the numbers of step times apart from others drawn from the seed
_LARGEST_CHANGE = 0.01


def step_seconds(config: LearnerConfig, step: int) -> float:
    """How long the batch number ``step`` takes, in seconds; the same in every run.

    Raises:
        ConfigError: ``learner.step_seconds`` is no distribution.
    """
    quantile = parse_distribution(config.step_seconds, where="learner.step_seconds")
    return quantile(uniform(config.seed, _STREAM, step))


class SimulatedLearner:
    """Takes batches and publishes weights; made to run as a Ray actor.

    Args:
        config: how long it works, and whether weights change.
        model: the model whose weights it publishes.
    """

    def __init__(self, config: LearnerConfig, model: ModelConfig) -> None:
        self._config = config
        self._model = model

    async def train(self, step: int, batch: Sequence[FinishedGroup]) -> None:
        """Work on a batch."""
        assert batch
        await asyncio.sleep(step_seconds(self._config, step))

    async def weights(self, version: int) -> dict[str, Any] | None:
        """The weights of a version, under the names that the model was saved with; None if none change.

        The model's last norm is scaled a little, by a factor that depends on seed and version.
        """
        if not self._config.change_weights or not version:
            return None
        return await asyncio.to_thread(self._changed, version)

    def _changed(self, version: int) -> dict[str, Any]:
        from safetensors.torch import load_file

        from asynckit.models.local import weight_files
        from asynckit.models.resolve import resolve_model

        tensors: dict[str, Any] = {}
        for path in weight_files(resolve_model(self._model).path):
            tensors.update(load_file(path))
        # Every layer has norms; the one after the last layer is named apart from them and sorts last.
        name = max(name for name, tensor in tensors.items() if tensor.ndim == 1)
        share = 2 * uniform(self._config.seed, _STREAM + 1, version) - 1
        tensors[name] = tensors[name] * (1 + _LARGEST_CHANGE * share)
        return tensors
