"""Log files of a run: one per actor, in the run directory where it can be reached."""

import logging
from pathlib import Path

from asynckit.rollout.run_directory import RunDirectory


def log_to_file(folder: Path, name: str, attempt: int) -> None:
    """Send this process's log to ``NAME.log`` of an attempt at the run in ``folder``.

    On another machine of a cluster, where the run directory is not mounted, Ray's own log files take it.
    """
    logs = RunDirectory(folder).logs(attempt)
    handler = logging.FileHandler(logs / f"{name}.log") if logs.is_dir() else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
