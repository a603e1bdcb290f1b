"""A GPU machine needs torch and little else to measure and to report."""

import subprocess
import sys

HEAVY = ("torch", "ray", "zmq", "omegaconf", "transformers", "pynvml", "rich")


def test_reports_import_nothing_heavy() -> None:
    """What is heavy or missing is imported where it is used."""
    code = (
        "import sys, asynckit.bench.environment, asynckit.bench.trust, asynckit.bench.formats;"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
