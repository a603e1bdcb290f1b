"""Disks with room for little."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MOUNT = ("/usr/bin/env", "mount")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Make a folder a disk of this size, such as ``200k``; skips the test where that cannot be done."""
    folder.mkdir()
    mount = [*_MOUNT, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a disk can only be made small by root")
    try:
        yield folder
    finally:
        subprocess.run(["/usr/bin/env", "umount", "-l", str(folder)], check=True)


def grow(disk: Path, size: str) -> None:
    """Give it room."""
    subprocess.run([*_MOUNT, "-o", f"remount,size={size}", str(disk)], check=True)
