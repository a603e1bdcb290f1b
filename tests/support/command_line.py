"""What tests of the command line share."""

import os
import subprocess
from collections.abc import Callable

Run = Callable[..., subprocess.CompletedProcess[str]]

# Small and exact: a tiny model needs neither more precision tricks nor more room.
TINY = ("engine.dtype=float32", "engine.kv_cache_tokens=4096", "sampling.max_tokens=8")


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without settings of asynckit and keys to a Ray, plus ``extra``."""
    ours = ("ASYNCKIT_", "RAY_AUTH_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**clean, "NO_COLOR": "1", **extra}
