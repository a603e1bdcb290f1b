"""The connection to Ray: a quiet local one by default, or a cluster by its address."""

import logging
import os
import socket
from pathlib import Path

from asynckit.cluster.config import RayConfig
from asynckit.errors import DependencyError

_CONNECT_SECONDS = 10.0


def connect(config: RayConfig) -> None:
    """Start a local Ray, or join the cluster at ``config.address``.

    Raises:
        DependencyError: no cluster answers there.
    """
    # Ray reads these when it is imported; a person's own settings win.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_process_group_cleanup_enabled", "1")  # what a worker started dies with it
    import ray

    local = config.address == "local"
    if not local:
        _refuse_silent(config.address)
    try:
        ray.init(
            address=config.address,
            num_cpus=config.num_cpus if local else None,
            include_dashboard=False if local else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises bare ones where a part of it doesn't come up
        raise DependencyError(
            f"can't reach Ray at {config.address!r}: {error}".splitlines()[0],
            where="ray.address",
            mend="start a cluster with `ray start --head`, or use ray.address=local; a cluster with "
            "token authentication needs RAY_AUTH_MODE=token",
        ) from error


def _refuse_silent(address: str) -> None:
    """Raise where nothing listens: Ray itself would go on trying for many minutes."""
    found = _remembered() if address == "auto" else address
    host, _, port = found.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # Ray finds its own cluster, or says what is wrong with the address
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise DependencyError(
            f"nothing answers at {found}: {error.strerror or error}",
            where="ray.address",
            mend="start a cluster with `ray start --head`, or use ray.address=local",
        ) from error


def _remembered() -> str:
    """The cluster that Ray takes for ``auto``: the environment's, or the last one started on this machine."""
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"  # noqa: S108 - Ray's place
    if named := os.environ.get("RAY_ADDRESS"):
        return named
    return note.read_text().strip() if note.is_file() else ""


def disconnect() -> None:
    """Leave the cluster; a local Ray and all its processes end."""
    import ray

    ray.shutdown()
