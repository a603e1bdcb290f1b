"""Lets a process end with the one that started it, whatever that one dies of."""

import ctypes
import os
import signal

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies; on Linux."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os.kill(os.getpid(), signal.SIGKILL)
