"""One response scored in a process of its own, which can be killed: ``--dry-run`` tries a reward so.

The child is this module run as a program. It reads a pickled job from stdin and answers on a pipe of its own:
one byte when the reward is loaded, then the pickled result. What a person's module prints goes to stderr.
"""

import os
import pickle
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from asynckit.errors import AsynckitError, InputError, WorkFailed
from asynckit.rollout.rewards import Failure, RewardInput, Score, evaluate, load_reward

_LOADED = b"+"


def try_reward(
    name: str, given: RewardInput, *, import_paths: Sequence[str], load_seconds: float, call_seconds: float
) -> Score | Failure:
    """Load a reward and score one response, in another process.

    Args:
        name: as :func:`asynckit.rollout.rewards.load_reward` takes it.
        given: what to score.
        import_paths: folders to import from.
        load_seconds: that loading may take.
        call_seconds: that scoring may take.

    Raises:
        InputError: there is no such reward, or it took too long.
        DependencyError: a package that it needs is not installed.
        WorkFailed: its process died.
    """
    answer, its_end = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, str(its_end)],
        stdin=subprocess.PIPE,
        stdout=sys.stderr.fileno(),
        pass_fds=(its_end,),
        start_new_session=True,  # so that its own children die with it
    )
    os.close(its_end)
    try:
        assert child.stdin
        with child.stdin:
            child.stdin.write(pickle.dumps((name, given, tuple(import_paths))))
        loaded = _read(answer, 1, load_seconds, f"loading the reward {name}")
        if loaded == _LOADED:
            content = _read(answer, -1, call_seconds, f"the reward {name}")
        else:
            content = loaded + _read(answer, -1, load_seconds, f"loading the reward {name}")
    finally:
        os.close(answer)
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if not content:
        raise WorkFailed(
            f"the reward's process died with exit code {child.returncode}",
            where=name,
            mend="see what it printed; C code may have crashed",
        )
    result: Score | Failure | AsynckitError = pickle.loads(content)  # noqa: S301 - our own child wrote it
    if isinstance(result, AsynckitError):
        raise result
    return result


def _read(pipe: int, count: int, seconds: float, what: str) -> bytes:
    """So many bytes, or all until the pipe is closed for -1; fewer where it is closed first."""
    deadline = time.monotonic() + seconds
    content = b""
    while count < 0 or len(content) < count:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            raise InputError(
                f"{what} took longer than {seconds:g} s",
                where="reward.timeout",
                mend="mend it, or raise reward.timeout if it is meant to be slow",
            )
        chunk = os.read(pipe, 65536 if count < 0 else count - len(content))
        if not chunk:
            break
        content += chunk
    return content


def _child(pipe: int) -> None:
    name, given, import_paths = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own parent wrote it
    result: Score | Failure | AsynckitError
    with os.fdopen(pipe, "wb") as answer:
        try:
            reward = load_reward(name, import_paths=import_paths)
        except AsynckitError as error:
            result = error
        else:
            answer.write(_LOADED)
            answer.flush()
            result = evaluate(reward, given)
        answer.write(pickle.dumps(result))


if __name__ == "__main__":
    _child(int(sys.argv[1]))
