"""Scoring in processes of its own: a reward that hangs or crashes costs its sample, never the run.

A :class:`RewardWorker` is a Ray actor that runs one reward. A :class:`WorkerPool` lends workers out one call
at a time, gives every call a time limit, and replaces a worker that overran it or died. While the reward is
quick and nothing has gone wrong, the responses of a group go in one call.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from asynckit.errors import AsynckitError, InputError
from asynckit.rollout.scoring.reward_loading import load_reward
from asynckit.rollout.scoring.rewards import Failure, Reward, RewardInput, Score, evaluate
from asynckit.user_code import describe

log = logging.getLogger(__name__)

_QUICK_SECONDS = 0.02  # per response: below it, calls one by one would take longer than the scoring
_TRIES = 3  # of a response whose worker dies: once may be chance, thrice is the reward's doing
_CLOSE_SECONDS = 5.0  # that a person's close() may take


class RewardWorker:
    """Runs one reward, in the main thread of a process of its own.

    Args:
        name: a built-in reward, ``module:function`` or ``module:Class``.
        import_paths: folders put on ``sys.path`` before importing.
        args: settings of the function or class.
    """

    def __init__(self, name: str, import_paths: Sequence[str], args: Mapping[str, str]) -> None:
        self._name = name
        self._import_paths = import_paths
        self._args = args

    def ready(self) -> None:
        """Load the reward; here and not in the constructor, whose errors Ray reports as the actor's death.

        Raises:
            InputError: the reward can't be loaded in this process.
        """
        self._reward: Reward = load_reward(self._name, import_paths=self._import_paths, args=self._args)
        self._reward.open()

    def score(self, items: Sequence[RewardInput]) -> list[Score | Failure]:
        """Score responses one after the other."""
        return [self._score(item) for item in items]

    def _score(self, item: RewardInput) -> Score | Failure:
        try:
            return evaluate(self._reward, item)
        except KeyboardInterrupt as error:  # nobody presses Ctrl-C here: the reward raised it
            return Failure(describe(error, self._reward.source))

    def close(self) -> None:
        """Give back what the reward holds; raises what a person's ``close`` raises."""
        self._reward.close()


class WorkerPool:
    """Workers of one reward, lent out one call at a time.

    Args:
        name: of the reward.
        import_paths: folders put on ``sys.path`` before a person's module is imported.
        args: settings of a person's function or class.
        workers: how many.
        timeout: seconds that one call may take.
        startup_timeout: seconds that a worker may take to start.

    Attributes:
        scored: responses so far, failed ones included.
    """

    def __init__(
        self,
        name: str,
        *,
        import_paths: Sequence[str],
        args: Mapping[str, str],
        workers: int,
        timeout: float,
        startup_timeout: float,
    ) -> None:
        self._name = name
        self._worker_arguments = (name, import_paths, args)
        self._workers = workers
        self._timeout = timeout
        self._startup_timeout = startup_timeout
        self._idle: asyncio.Queue[Any] = asyncio.Queue()
        self._quick = False
        self._trusted = True  # until a call overruns its time or kills its worker
        self.scored = 0

    async def start(self) -> None:
        """Start all workers.

        Raises:
            InputError: the reward can't be loaded, or takes longer than ``startup_timeout``.
        """
        starting = (self._start_one() for _ in range(self._workers))
        found = await asyncio.gather(*starting, return_exceptions=True)
        for worker in found:
            if not isinstance(worker, BaseException):
                self._idle.put_nowait(worker)
        for error in found:
            if isinstance(error, BaseException):
                raise error

    async def score(self, items: Sequence[RewardInput]) -> list[Score | Failure]:
        """Score the responses of a group, those of a quick reward in one call.

        A response that takes longer than the time-out or keeps killing its worker is a :class:`Failure`; the
        others of its group are scored again, one by one, and so are all groups from then on.
        """
        if self._quick and self._trusted:
            scores = await self._call(items)
            if isinstance(scores, list):
                self.scored += len(items)
                return scores
        return list(await asyncio.gather(*map(self._score_one, items)))

    async def _score_one(self, item: RewardInput) -> Score | Failure:
        score: Score | Failure = Failure("the reward's process died")
        for _ in range(_TRIES):
            scores = await self._call([item])
            if scores is not None:
                score = scores[0] if isinstance(scores, list) else scores
                break
        self.scored += 1
        return score

    async def _call(self, items: Sequence[RewardInput]) -> list[Score | Failure] | Failure | None:
        """Have responses scored; a Failure where that took too long, None where the worker died."""
        worker = await self._idle.get()
        keep = None  # a place without a worker: whoever takes it starts a new one
        try:
            worker = worker or await self._start_one()
            begin = time.perf_counter()
            async with asyncio.timeout(self._timeout):
                scores: list[Score | Failure] = await worker.score.remote(items)
            keep = worker
            self._quick = time.perf_counter() - begin < _QUICK_SECONDS * len(items)
        except InputError as error:  # a new worker can't be started
            return Failure(str(error))
        except TimeoutError:
            self._trusted = False
            return Failure(f"the reward took longer than reward.timeout={self._timeout:g} s")
        # Of its actor, its node or its memory: the worker's own code raises nothing.
        except RayError as error:
            self._trusted = False
            log.warning("a worker of %s died: %s", self._name, str(error).splitlines()[0])
            return None
        finally:
            if keep is None and worker is not None:
                # Also when cancelled: the worker may be deep inside a call that nobody waits for any more.
                ray.kill(worker)
            self._idle.put_nowait(keep)
        return scores

    async def close(self) -> None:
        """Close the idle workers' rewards and stop the workers; once no call is in flight any more."""
        workers = [worker for _ in range(self._idle.qsize()) if (worker := self._idle.get_nowait())]
        await asyncio.gather(*map(self._close_one, workers))

    async def _close_one(self, worker: Any) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await worker.close.remote()
        except (RayError, TimeoutError) as error:  # what was scored stays scored
            reason = str(error).strip().splitlines()[-1:] or [f"it took longer than {_CLOSE_SECONDS:g} s"]
            log.warning("closing %s failed: %s", self._name, reason[0])
        finally:
            ray.kill(worker)

    async def _start_one(self) -> Any:
        worker = ray.remote(RewardWorker).options(num_cpus=0).remote(*self._worker_arguments)
        ready = False
        try:
            async with asyncio.timeout(self._startup_timeout):
                await worker.ready.remote()
            ready = True
        except TimeoutError:
            raise self._not_ready(f"took longer than {self._startup_timeout:g} s") from None
        except RayTaskError as error:
            if isinstance(error.cause, AsynckitError):
                raise error.cause from None
            raise
        except RayError as error:
            reason = str(error).splitlines()[0]
            raise self._not_ready(f"ended its process: {reason}") from error
        finally:
            if not ready:
                ray.kill(worker)
        return worker

    def _not_ready(self, what: str) -> InputError:
        return InputError(f"loading the reward {what}", where=self._name, mend="mend it, or its settings")
