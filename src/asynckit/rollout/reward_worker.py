"""Scoring in processes of its own: a reward that hangs or crashes costs its sample, never the run.

A :class:`RewardWorker` is a Ray actor that runs one reward function. A :class:`RewardPool` lends workers out
one call at a time, gives every call a time limit, and replaces a worker that overran it or died. While the
reward is quick, the responses of a group go in one call.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError

from asynckit.rollout.config import RewardConfig
from asynckit.rollout.rewards import Failure, Reward, RewardInput, Score, evaluate, load_reward

_QUICK_SECONDS = 0.02  # per response: below it, calls one by one would take longer than the scoring
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

    def score(self, items: Sequence[RewardInput]) -> list[Score | Failure]:
        """Score responses one after the other."""
        return [evaluate(self._reward, item) for item in items]


class RewardPool:
    """Reward workers lent out one call at a time.

    Args:
        config: the reward's name, how many workers, and how long one call may take.
        import_paths: folders put on ``sys.path`` before a ``module:function`` is imported.
        startup_timeout: seconds that a worker may take to start.

    Attributes:
        scored: responses so far.
    """

    def __init__(self, config: RewardConfig, import_paths: Sequence[str], startup_timeout: float) -> None:
        self._config = config
        self._import_paths = import_paths
        self._startup_timeout = startup_timeout
        self._idle: asyncio.Queue[Any] = asyncio.Queue()
        self._quick = False
        self.scored = 0

    async def start(self) -> None:
        """Start all workers.

        Raises:
            TimeoutError: one took longer than ``startup_timeout``.
            InputError: the reward function can't be loaded.
        """
        for worker in await asyncio.gather(*(self._start_one() for _ in range(self._config.workers))):
            self._idle.put_nowait(worker)

    async def score(self, items: Sequence[RewardInput]) -> list[Score | Failure]:
        """Score the responses of a group, those of a quick reward in one call.

        A response that takes longer than ``reward.timeout`` or keeps killing its worker is a
        :class:`Failure`; the others of its group are scored again, one by one.
        """
        if self._quick:
            scores = await self._call(items)
            if isinstance(scores, list):
                return scores
        return list(await asyncio.gather(*map(self._score_one, items)))

    async def _score_one(self, item: RewardInput) -> Score | Failure:
        for _ in range(_TRIES):
            scores = await self._call([item])
            if isinstance(scores, list):
                return scores[0]
            if scores:
                return scores
        return Failure("the reward's process died")

    async def _call(self, items: Sequence[RewardInput]) -> list[Score | Failure] | Failure | None:
        """Have responses scored; a Failure where that took too long, None where the worker died."""
        worker = await self._idle.get()
        keep = None  # a place without a worker: whoever takes it starts a new one
        quick = False
        try:
            worker = worker or await self._start_one()
            begin = time.perf_counter()
            async with asyncio.timeout(self._config.timeout):
                scores: list[Score | Failure] = await worker.score.remote(items)
            keep = worker
            self.scored += len(items)
            quick = time.perf_counter() - begin < _QUICK_SECONDS * len(items)
        except TimeoutError:
            return Failure(f"the reward took longer than reward.timeout={self._config.timeout:g} s")
        except RayActorError:
            return None
        finally:
            if keep is None and worker is not None:
                # Also when cancelled: the worker may be deep inside a call that nobody waits for any more.
                ray.kill(worker)
            self._quick = quick
            self._idle.put_nowait(keep)
        return scores

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
