"""Where the server's processes run: on this machine, or on the nodes of a Ray cluster."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import msgspec

from asynckit.engine.config import EngineConfig
from asynckit.errors import ConfigError
from asynckit.serve.assignment import Assignment
from asynckit.serve.config import ServeConfig

GPUS = Path("/proc/driver/nvidia/gpus")


class Process(Protocol):
    """A process that was started, wherever it runs."""

    async def wait(self) -> int:
        """Its exit code; negative for the signal that ended it."""

    def kill(self) -> None:
        """End it at once; :meth:`wait` tells when it is gone."""


class Host(Protocol):
    """A place for processes."""

    async def start(self, assignment: Assignment) -> Process:
        """Start the process that the assignment is for."""


def command(name: str) -> list[str]:
    """How a process is started; the name is for whoever looks at the list of processes."""
    return [sys.executable, "-P", "-m", "asynckit.serve.process", name]


class ThisMachine:
    """Starts processes beside this one. They die with it, as they ask the kernel to."""

    async def start(self, assignment: Assignment) -> Process:
        """Start a process; only HTTP servers get the socket that clients connect to."""
        process = await asyncio.create_subprocess_exec(
            *command(assignment.name),
            stdin=asyncio.subprocess.PIPE,
            stdout=2,  # data is the command's own; sys.stderr may be closed
            pass_fds=(assignment.listening,) if assignment.listening >= 0 else (),
            start_new_session=True,  # Ctrl-C is for the supervisor, which knows the order
            env=os.environ | _surroundings(assignment),
        )
        assert process.stdin
        with suppress(BrokenPipeError, ConnectionResetError):  # it is gone already: its exit will tell
            process.stdin.write(msgspec.json.encode(assignment))
            await process.stdin.drain()
            process.stdin.close()
        return _Local(process)


class _Local:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def wait(self) -> int:
        return await self._process.wait()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()


def _surroundings(assignment: Assignment) -> dict[str, str]:
    """Only model workers compute on many cores, and each of several has its own GPU."""
    if assignment.kind != "worker":
        return {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    serve = assignment.serve
    if serve.replicas * serve.tp == 1:
        return {}
    index = assignment.replica * serve.tp + assignment.rank
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    mine = given.split(",")[index] if given else str(index)
    return {"CUDA_VISIBLE_DEVICES": mine}


def share_machine(serve: ServeConfig, engine: EngineConfig) -> EngineConfig:
    """The engine's settings where several processes share this machine: an equal part of its cores.

    Raises:
        ConfigError: there are GPUs, but not one for each process.
    """
    processes = serve.replicas * serve.tp
    if processes == 1 or serve.engine == "simulated":
        return engine
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = len(given.split(",")) if given else len(list(GPUS.iterdir())) if GPUS.is_dir() else 0
    if engine.device != "cpu" and 0 < gpus < processes:
        raise ConfigError(
            f"{serve.replicas} replicas of {serve.tp} processes need {processes} GPUs, and there are {gpus}",
            where="serve.replicas",
            mend="ask for fewer, or join a cluster with ray.address=auto",
        )
    cores = len(os.sched_getaffinity(0))
    return engine if engine.threads else replace(engine, threads=max(1, cores // processes))


class RayCluster:
    """Starts model workers on the nodes of a Ray cluster that this process has joined.

    An actor on the node holds the worker as its child and dies with this process, as Ray ends the actors of a
    driver that leaves. The ranks of a replica share a node.

    Args:
        serve, engine: settings; ``engine.threads`` CPUs, or one, are asked for per worker.
    """

    def __init__(self, serve: ServeConfig, engine: EngineConfig) -> None:
        import ray

        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = engine.device != "cpu" and any(resources.get("GPU") for resources in alive)
        self._bundle = {"CPU": float(engine.threads or 1)} | ({"GPU": 1.0} if gpus else {})
        self._ranks = serve.tp
        self._groups: dict[int, Any] = {}
        self.address = str(ray.util.get_node_ip_address())

    async def start(self, assignment: Assignment) -> Process:
        """Start a model worker where there is room; Ray waits for it if need be."""
        import ray
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        if assignment.replica not in self._groups:
            bundles = [self._bundle] * self._ranks
            self._groups[assignment.replica] = placement_group(bundles, strategy="STRICT_PACK")
        where = PlacementGroupSchedulingStrategy(
            self._groups[assignment.replica], placement_group_bundle_index=assignment.rank
        )
        actor = (
            ray.remote(_Keeper)
            .options(
                num_cpus=self._bundle["CPU"],
                num_gpus=self._bundle.get("GPU", 0.0),
                scheduling_strategy=where,
                max_restarts=0,
            )
            .remote()
        )
        return _Remote(actor, actor.keep.remote(msgspec.json.encode(assignment)))


class _Keeper:
    """An actor that holds one model worker; Ray gives it its GPU."""

    def keep(self, assignment_json: bytes) -> int:
        """Run the worker to its end; returns its exit code."""
        import ray

        assignment = msgspec.json.decode(assignment_json, type=Assignment)
        place = msgspec.structs.replace(assignment.place, host=str(ray.util.get_node_ip_address()))
        meeting = "-".join(
            Path(assignment.rendezvous).parts[-2:]
        )  # the ranks share a node, but no folder yet
        mine = msgspec.structs.replace(
            assignment,
            place=place,
            supervisor=os.getpid(),
            rendezvous=str(Path(tempfile.gettempdir()) / meeting),
        )
        done = subprocess.run(command(mine.name), input=msgspec.json.encode(mine), check=False)
        return done.returncode


class _Remote:
    def __init__(self, actor: Any, end: Any) -> None:
        self._actor = actor
        self._end = end

    async def wait(self) -> int:
        from ray.exceptions import RayError

        try:
            code: int = await self._end
        except RayError:  # the actor or its node is gone, and the worker with it
            return -signal.SIGKILL
        return code

    def kill(self) -> None:
        import ray

        ray.kill(self._actor)
