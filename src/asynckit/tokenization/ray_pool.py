"""Workers on a Ray cluster: units are tokenized on its nodes, and shards put together where the output is.

Nodes read the inputs themselves, so files must be where every node finds them; what came from a stream is
sent along. They send parts back, so the output is written by one machine, with the same bytes as ever.
"""

import contextlib
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from asynckit.cluster.config import RayConfig
from asynckit.cluster.connection import connect, disconnect
from asynckit.disk import writing
from asynckit.errors import AsynckitError, DependencyError
from asynckit.tokenization.pool import LocalPool, Outcome
from asynckit.tokenization.tasks import Job, TokenizeUnit, UnitNote, Worker

_LOCAL_SECONDS = 0.05


class _Remote:
    """A worker on some node."""

    def __init__(self, job: Job) -> None:
        self._worker = Worker(job)

    def tokenize(self, task: TokenizeUnit, block: bytes | None) -> tuple[UnitNote, bytes]:
        """A unit's note and the bytes of its part."""
        with tempfile.TemporaryDirectory() as folder:
            item = task.item
            if block is not None:
                item = replace(item, block=Path(folder) / "block")
                (Path(folder) / "block").write_bytes(block)
            path = Path(folder) / task.path.name
            note = self._worker(TokenizeUnit(item, path))
            assert isinstance(note, UnitNote)
            return note, path.read_bytes()


class RayPool:
    """Actors for the units, and a process here for the shards.

    Args:
        job: what the workers have to know.
        local: the process here.
    """

    def __init__(self, job: Job, local: LocalPool) -> None:
        self._job = job
        self._local = local
        self._waiting: deque[Any] = deque()  # shards, for the process here
        count = job.config.workers or int(ray.cluster_resources().get("CPU", 0))
        if not count:
            raise DependencyError("the cluster has no CPU", where="ray.address", mend="let nodes join it")
        self._idle = [self._actor() for _ in range(count)]
        self._busy: dict[Any, tuple[Any, TokenizeUnit, float]] = {}

    @property
    def idle(self) -> int:
        """How many workers have nothing to do."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """How many tasks are being done."""
        return len(self._busy) + self._local.busy + len(self._waiting)

    def give(self, task: Any) -> None:
        """Begin a task; a worker must be idle."""
        if not isinstance(task, TokenizeUnit):
            self._waiting.append(task)
            self._feed_local()
            return
        actor = self._idle.pop()
        block = task.item.block.read_bytes() if task.item.block else None
        end = time.monotonic() + self._job.config.unit_seconds
        self._busy[actor.tokenize.remote(task, block)] = (actor, task, end)

    def wait(self, seconds: float) -> list[Outcome]:
        """The tasks that have ended, at most this much later."""
        ended = self._local.wait(0.0 if self._busy else seconds)
        self._feed_local()
        for actor, _, end in self._busy.values():
            if time.monotonic() > end:
                ray.kill(actor)  # its answer will be that it died
        if self._busy:
            patience = min(seconds, _LOCAL_SECONDS) if self._local.busy else seconds
            ready, _ = ray.wait(list(self._busy), num_returns=1, timeout=0.0 if ended else patience)
            ended += [self._ended(reference) for reference in ready]
        return ended

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        for actor in [*self._idle, *(actor for actor, *_ in self._busy.values())]:
            ray.kill(actor)
        self._local.close()

    def _actor(self) -> Any:
        return ray.remote(_Remote).options(num_cpus=1).remote(self._job)

    def _feed_local(self) -> None:
        while self._waiting and self._local.idle:
            self._local.give(self._waiting.popleft())

    def _ended(self, reference: Any) -> Outcome:
        actor, task, _ = self._busy.pop(reference)
        try:
            note, part = ray.get(reference)
        except (
            RayActorError,
            ObjectLostError,
        ):  # its node may go after the work is done, and the answer with it
            self._idle.append(self._actor())
            return Outcome(task, died=True)
        except RayTaskError as error:
            self._idle.append(actor)
            known = isinstance(error.cause, AsynckitError)
            return Outcome(task, error=error.cause if known else error)
        self._idle.append(actor)
        hidden = task.path.with_name(f".{task.path.name}.tmp")
        with writing(task.path):
            hidden.write_bytes(part)
            hidden.replace(task.path)
        return Outcome(task, note)


@contextlib.contextmanager
def ray_pool(worker: Worker, config: RayConfig) -> Iterator[RayPool]:
    """Workers on the cluster, ended on the way out.

    Raises:
        DependencyError: no cluster answers, or it has no CPU.
    """
    local = LocalPool(worker, 1, seconds=worker.job.config.unit_seconds)  # forked before Ray has threads here
    try:
        connect(config)
        try:
            pool = RayPool(worker.job, local)
            try:
                yield pool
            finally:
                pool.close()
        finally:
            disconnect()
    finally:
        local.close()
