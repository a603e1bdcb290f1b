"""One response scored in a process of its own, which can be killed: ``--dry-run`` tries a reward so.

The child is this module run as a program. It reads a pickled job from stdin and answers on a pipe of its own:
once when the reward is loaded, then with the score, or with the error that loading ended in. Answers are
pickled, with their lengths before them. What a person's module prints goes to stderr.
"""

import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from asynckit.errors import AsynckitError, InputError, WorkFailed
from asynckit.rollout.scoring.reward_loading import load_reward
from asynckit.rollout.scoring.rewards import Failure, RewardInput, Score, evaluate

_LENGTH = struct.Struct("!Q")
_Answer = Score | Failure | AsynckitError | None  # None: the reward is loaded


def try_reward(
    name: str,
    given: RewardInput,
    *,
    import_paths: Sequence[str],
    args: Mapping[str, str],
    load_seconds: float,
    call_seconds: float,
) -> Score | Failure:
    """Load a reward and score one response, in another process.

    Args:
        name: as :func:`asynckit.rollout.scoring.rewards.load_reward` takes it.
        given: what to score.
        import_paths: folders to import from.
        args: settings of a person's reward.
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
            child.stdin.write(pickle.dumps((name, given, tuple(import_paths), dict(args))))
        result = _answer(answer, load_seconds, f"loading the reward {name}")
        if result is None:
            result = _answer(answer, call_seconds, f"the reward {name}")
    finally:
        os.close(answer)
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if isinstance(result, AsynckitError):
        raise result
    assert result is not None
    return result


def _answer(pipe: int, seconds: float, what: str) -> _Answer:
    """What the child says next.

    Raises:
        InputError: nothing within so many seconds.
        WorkFailed: the child died.
    """
    deadline = time.monotonic() + seconds
    (length,) = _LENGTH.unpack(_read(pipe, _LENGTH.size, deadline, what))
    found: _Answer = pickle.loads(_read(pipe, length, deadline, what))  # noqa: S301 - our own child wrote it
    return found


def _read(pipe: int, count: int, deadline: float, what: str) -> bytes:
    content = b""
    while len(content) < count:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            raise InputError(
                f"{what} takes too long",
                where="reward.timeout",
                mend="mend it, or raise reward.timeout if it is meant to be slow",
            )
        chunk = os.read(pipe, count - len(content))
        if not chunk:
            raise WorkFailed(
                f"{what}: its process died", where="reward.name", mend="see what it printed, if anything"
            )
        content += chunk
    return content


def _child(pipe: int) -> None:
    name, given, import_paths, args = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own parent wrote it
    with os.fdopen(pipe, "wb") as answers:
        try:
            reward = load_reward(name, import_paths=import_paths, args=args)
            reward.open()
        except AsynckitError as error:
            _say(answers, error)
        else:
            _say(answers, None)
            _say(answers, evaluate(reward, given))


def _say(answers: BinaryIO, answer: _Answer) -> None:
    content = pickle.dumps(answer)
    answers.write(_LENGTH.pack(len(content)) + content)
    answers.flush()


if __name__ == "__main__":
    _child(int(sys.argv[1]))
