"""What workers of a pool do in tests: in a module that a process that is spawned finds."""

import os
import signal

from asynckit.errors import InputError


def do(task: object) -> object:
    """What the workers do."""
    if task == "pid":
        return os.getpid()
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "refuse":
        raise InputError("broken", where="a:1", mend="mend it")
    if task == "bug":
        raise ZeroDivisionError("inside")
    return task


def do_nothing_for_long(_task: object) -> None:
    signal.pause()
