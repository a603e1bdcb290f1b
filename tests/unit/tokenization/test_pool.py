"""Worker processes: each task ends once, whatever becomes of the worker."""

import os
import signal
from collections.abc import Iterator

import pytest
from pool_tasks import do, do_nothing_for_long

from asynckit.errors import InputError
from asynckit.tokenization.pool import LocalPool, Outcome


@pytest.fixture
def pool() -> Iterator[LocalPool]:
    found = LocalPool(do, 2, seconds=300)
    yield found
    found.close()
    assert not found.idle
    assert not found.busy


def wait(pool: LocalPool) -> Outcome:
    (outcome,) = pool.wait(60)
    return outcome


def test_tasks_are_answered_by_as_many_workers(pool: LocalPool) -> None:
    pool.give("pid")
    pool.give("pid")
    assert (pool.idle, pool.busy) == (0, 2)
    answers = set()
    while pool.busy:
        answers |= {outcome.answer for outcome in pool.wait(60)}
    assert len(answers) == 2
    assert os.getpid() not in answers


def test_an_error_comes_back_as_it_was(pool: LocalPool) -> None:
    pool.give("refuse")
    error = wait(pool).error
    assert isinstance(error, InputError)
    assert (error.message, error.where, error.mend) == ("broken", "a:1", "mend it")


def test_a_bug_comes_back_with_its_traceback(pool: LocalPool) -> None:
    pool.give("bug")
    assert "ZeroDivisionError: inside" in str(wait(pool).error)


def test_a_worker_that_dies_is_replaced(pool: LocalPool) -> None:
    """The task says so, and the pool is as large as before."""
    for _ in range(2):
        pool.give("die")
        outcome = wait(pool)
        assert outcome.died
        assert outcome.task == "die"
    assert pool.idle == 2
    for number in range(4):
        pool.give(number)
        assert wait(pool).answer == number


def test_a_worker_that_dies_while_it_is_idle_is_replaced(pool: LocalPool) -> None:
    pool.give("pid")
    victim = wait(pool).answer
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    answered = 0
    while answered < 2:
        pool.give("again")
        outcome = wait(pool)
        answered += not outcome.died


def test_a_busy_worker_ends_with_the_pool() -> None:
    """Closing waits for nobody's work."""
    pool = LocalPool(do_nothing_for_long, 1, seconds=300)
    pool.give("x")
    pool.close()
    assert not pool.busy


def test_a_worker_that_hangs_is_replaced() -> None:
    """Its task says that it was lost, as if it had died."""
    pool = LocalPool(do_nothing_for_long, 1, seconds=0.01)
    pool.give("x")
    outcomes: list[Outcome] = []
    while not outcomes:
        outcomes = pool.wait(0.05)
    assert outcomes[0].died
    assert pool.idle == 1
    pool.close()
