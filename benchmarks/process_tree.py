"""A command with all its processes: how long it takes, and how much memory they hold together.

Memory is the proportional set size, so pages that processes share are counted once. Memory and processor time
are read several times a second, which costs little; what a process does after the last look is not seen.
"""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """One run of a command.

    Attributes:
        seconds: from starting it until its first process has ended.
        largest_mib: resident, of its largest process.
        memory_mib: of all its processes together, at each look.
        anonymous_mib: the same without pages of files, which the kernel can drop at any time.
        cpu_seconds: of all its processes; of those that nobody waited for until they were last seen.
    """

    seconds: float
    cpu_seconds: float
    largest_mib: float
    memory_mib: tuple[float, ...]
    anonymous_mib: tuple[float, ...]

    @property
    def peak_mib(self) -> float:
        """Of all its processes together."""
        return max(self.memory_mib, default=self.largest_mib)


def run(
    command: Sequence[object],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    every: float = 0.25,
    limit: float = 600.0,
) -> Outcome:
    """Run a command to its end.

    Args:
        command: and its arguments.
        log: where what it says goes.
        environment: added to this process's.
        every: seconds between two looks at the memory.
        limit: seconds after which it is ended.

    Raises:
        SystemExit: when it fails or takes too long.
    """
    looks: list[tuple[float, float]] = []
    ticks: dict[int, int] = {}
    with log.open("wb") as says:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=says,
            stderr=says,
            start_new_session=True,  # so that what it leaves behind can be ended
            env={**os.environ, **(environment or {})},
        )
        try:
            usage = None
            while usage is None:
                tree = _tree(process.pid)
                looks.append(_memory(tree))
                ticks |= _ticks(tree)
                if time.perf_counter() - begin > limit:
                    raise SystemExit(f"{command} took more than {limit:.0f} s")
                usage = _wait(process, every)
            seconds = time.perf_counter() - begin
        finally:
            _end(process.pid)
    if process.returncode:
        said = log.read_text(errors="replace")[-3000:]
        raise SystemExit(f"{command} ended with {process.returncode}:\n{said}")
    memory, anonymous = zip(*looks, strict=True)
    # The kernel counts to the end, but only processes that were waited for.
    cpu = max(sum(ticks.values()) / os.sysconf("SC_CLK_TCK"), usage.ru_utime + usage.ru_stime)
    return Outcome(seconds, cpu, usage.ru_maxrss / 2**10, memory, anonymous)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> resource.struct_rusage | None:
    """What it used once it has ended; None if it has not after so many seconds."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage
        time.sleep(0.005)
    return None


def _memory(tree: Sequence[int]) -> tuple[float, float]:
    """MiB of processes: everything, and without pages of files."""
    whole = anonymous = 0
    for pid in tree:
        with suppress(OSError):  # it may end while we look
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
            pairs = (line.partition(":") for line in lines[1:])
            values = {name: int(rest.split()[0]) for name, _, rest in pairs}
            whole += values["Pss"]
            anonymous += values["Pss"] - values["Pss_File"]
    return whole / 2**10, anonymous / 2**10


def _ticks(tree: Sequence[int]) -> dict[int, int]:
    """Clock ticks of processor time that each process took so far."""
    found = {}
    for pid in tree:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            found[pid] = int(fields[11]) + int(fields[12])
    return found


def _tree(root: int) -> list[int]:
    """A process and all below it."""
    found = [root]
    for pid in found:  # grows as it is gone through
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, children.read_text().split())
    return found


def _end(group: int) -> None:
    """End what is left of a session."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
