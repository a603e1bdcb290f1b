"""All rewards of a run as one: every component in worker processes of its own, their scores weighed."""

import asyncio
from collections.abc import Sequence

from asynckit.rollout.config import RewardConfig
from asynckit.rollout.scoring.reward_loading import weights_of
from asynckit.rollout.scoring.reward_worker import WorkerPool
from asynckit.rollout.scoring.rewards import Failure, RewardInput, Score, weigh


class RewardPool:
    """The reward, or the components side by side: each has its own processes and its own time limit.

    Args:
        config: the reward or components, how many workers each, and how long one call may take.
        import_paths: folders put on ``sys.path`` before a person's module is imported.
        startup_timeout: seconds that a worker may take to start.
    """

    def __init__(self, config: RewardConfig, import_paths: Sequence[str], startup_timeout: float) -> None:
        self._weights = config.components
        self._pools = {
            name: WorkerPool(
                name,
                import_paths=import_paths,
                args=config.args,
                workers=config.workers,
                timeout=config.timeout,
                startup_timeout=startup_timeout,
            )
            for name in weights_of(config)
        }

    @property
    def scored(self) -> int:
        """How many scores there are so far, failed ones included; one per component of a response."""
        return sum(pool.scored for pool in self._pools.values())

    async def start(self) -> None:
        """Start all workers.

        Raises:
            InputError: a reward can't be loaded, or takes longer than ``startup_timeout``.
        """
        starting = (pool.start() for pool in self._pools.values())
        for outcome in await asyncio.gather(*starting, return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def score(self, items: Sequence[RewardInput]) -> list[Score | Failure]:
        """Score the responses of a group; what goes wrong with one is its Failure, and costs no other."""
        columns = await asyncio.gather(*(pool.score(items) for pool in self._pools.values()))
        if not self._weights:
            return columns[0]
        return [
            weigh(self._weights, dict(zip(self._pools, row, strict=True)))
            for row in zip(*columns, strict=True)
        ]

    async def close(self) -> None:
        """Close the rewards and stop their workers; once no call is in flight any more."""
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))
