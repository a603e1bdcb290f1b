"""Scoring in processes of its own: a reward that hangs or crashes costs its sample, never the run.

A :class:`RewardWorker` is a Ray actor that runs one reward function. A :class:`RewardPool` lends workers out
one call at a time, gives every call a time limit, and replaces a worker that overran it or died.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError

from asynckit.rollout.config import RewardConfig
from asynckit.rollout.rewards import Failure, Reward, RewardInput, Score, evaluate, load_reward

_TRIES = 3  # of a response whose worker dies: once may be chance, thrice is the reward's doing


class RewardWorker:
    """Runs one reward function, in a process of its own.

    Args:
        name: a built-in reward or ``module:function``.
        import_paths: folders put on ``sys.path`` before importing.
    """

    def __init__(self, name: str, import_paths: Sequence[str]) -> None:
        self._name = name
        self._import_paths = import_paths

    def ready(self) -> None:
        """Load the reward; here and not in the constructor, whose errors Ray reports as the actor's death.

        Raises:
            InputError: the reward can't be loaded in this process.
        """
        self._reward: Reward = load_reward(self._name, import_paths=self._import_paths)

    def score(self, item: RewardInput) -> Score | Failure:
        """Score one response."""
        return evaluate(self._reward, item)


class RewardPool:
    """Reward workers lent out one call at a time.

    Args:
        config: the reward's name, how many workers, and how long one call may take.
        import_paths: folders put on ``sys.path`` before a ``module:function`` is imported.
        startup_timeout: seconds that a worker may take to start.
    """

    def __init__(self, config: RewardConfig, import_paths: Sequence[str], startup_timeout: float) -> None:
        self._config = config
        self._import_paths = import_paths
        self._startup_timeout = startup_timeout
        self._idle: asyncio.Queue[Any] = asyncio.Queue()

    async def start(self) -> None:
        """Start all workers.

        Raises:
            TimeoutError: one took longer than ``startup_timeout``.
            InputError: the reward function can't be loaded.
        """
        for worker in await asyncio.gather(*(self._start_one() for _ in range(self._config.workers))):
            self._idle.put_nowait(worker)

    async def score(self, item: RewardInput) -> Score | Failure:
        """Score one response; one that takes too long or keeps killing its worker is a :class:`Failure`."""
        for _ in range(_TRIES):
            result = await self._try(item)
            if result:
                return result
        return Failure("the reward's process died")

    async def _try(self, item: RewardInput) -> Score | Failure | None:
        """Score once; None where the worker died."""
        result: Score | Failure | None = None
        worker = await self._idle.get()
        keep = None  # a place without a worker: whoever takes it starts a new one
        try:
            worker = worker or await self._start_one()
            async with asyncio.timeout(self._config.timeout):
                result = await worker.score.remote(item)
            keep = worker
        except TimeoutError:
            result = Failure(f"the reward took longer than reward.timeout={self._config.timeout:g} s")
        except RayActorError:
            result = None
        finally:
            if keep is None and worker is not None:
                # Also when cancelled: the worker may be deep inside a call that nobody waits for any more.
                ray.kill(worker)
            self._idle.put_nowait(keep)
        return result

    def close(self) -> None:
        """Stop the idle workers."""
        while not self._idle.empty():
            if worker := self._idle.get_nowait():
                ray.kill(worker)

    async def _start_one(self) -> Any:
        worker = ray.remote(RewardWorker).options(num_cpus=0).remote(self._config.name, self._import_paths)
        async with asyncio.timeout(self._startup_timeout):
            await worker.ready.remote()
        return worker
