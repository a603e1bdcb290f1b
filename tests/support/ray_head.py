"""A Ray that the runs of many tests share, so that they need not start one each.

As a script it starts a Ray, prints its address, and stops it when its standard input ends: with whoever
started it, however that dies.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from command_line import environment

CPUS = 2


@contextmanager
def ray_head() -> Iterator[dict[str, str]]:
    """A Ray of two CPUs; what a run has to have in its environment to use it.

    Its token is this process's own: Ray reads that once, so that it can't come later.
    """
    folder = tempfile.mkdtemp(prefix="ray-")  # sockets in pytest's own folders would have too long names
    access = {name: os.environ[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    try:
        with subprocess.Popen(
            [sys.executable, __file__],
            cwd=folder,
            env=environment(RAY_TMPDIR=folder, **access),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is for the tests, which then let go of it
        ) as head:
            assert head.stdin
            assert head.stdout
            address = head.stdout.readline().strip()
            assert address, "Ray did not start"
            yield {**access, "ASYNCKIT_RAY__ADDRESS": address}
            head.stdin.close()
            assert head.wait(60) == 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def joined(access: dict[str, str]) -> Iterator[None]:
    """This process as one that uses such a Ray."""
    from asynckit.cluster.config import RayConfig
    from asynckit.cluster.connection import connect, disconnect

    connect(RayConfig(address=access["ASYNCKIT_RAY__ADDRESS"]))
    try:
        yield
    finally:
        disconnect()


def serve() -> None:
    """Be that Ray."""
    from asynckit.cluster.config import RayConfig
    from asynckit.cluster.connection import connect, disconnect

    connect(RayConfig(num_cpus=CPUS))
    import ray

    try:
        os.write(1, f"{ray.get_runtime_context().gcs_address}\n".encode())
        sys.stdin.read()
    finally:
        disconnect()


if __name__ == "__main__":
    serve()
