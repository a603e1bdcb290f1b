"""Reading ahead in a thread: nothing half-read is used, every wait ends, failures stay where they belong."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asynckit.engine.adapter_files import AdapterFile
from asynckit.engine.adapter_reads import AdapterReads, Read
from asynckit.errors import InputError

READ = Read(AdapterFile(Path("a"), {}, 0, 0, ()), b"content")


@pytest.fixture
def reads() -> Iterator[AdapterReads]:
    reads = AdapterReads()
    yield reads
    reads.close()


def gated() -> tuple[threading.Event, threading.Event, Callable[[], Read]]:
    """Events of its begin and for its end, and a read between the two."""
    begun, may_end = threading.Event(), threading.Event()

    def read() -> Read:
        begun.set()
        assert may_end.wait(10)
        return READ

    return begun, may_end, read


def failing(error: Exception) -> Callable[[], Read]:
    def read() -> Read:
        raise error

    return read


def test_what_has_begun_is_waited_for(reads: AdapterReads) -> None:
    """The step that needs an adapter gets the whole of it."""
    begun, may_end, read = gated()
    reads.begin(1, read)
    assert begun.wait(10)
    threading.Timer(0.05, may_end.set).start()
    assert reads.take(1) is READ
    assert reads.take(1) is None


def test_what_has_not_begun_is_not_waited_for(reads: AdapterReads) -> None:
    """Whoever needs the second file reads it himself rather than wait behind the first."""
    begun, may_end, read = gated()
    reads.begin(1, read)
    reads.begin(2, lambda: READ)
    assert begun.wait(10)
    assert reads.take(2) is None
    may_end.set()
    assert reads.take(1) is READ


def test_a_dropped_read_has_ended(reads: AdapterReads) -> None:
    """An adapter that leaves leaves no thread in its files."""
    ended = threading.Event()
    begun, may_end, read = gated()

    def watched() -> Read:
        found = read()
        ended.set()
        return found

    reads.begin(1, watched)
    assert begun.wait(10)
    threading.Timer(0.05, may_end.set).start()
    reads.drop(1)
    assert ended.is_set()
    reads.drop(1)
    assert reads.take(1) is None


@pytest.mark.parametrize("error", [InputError("changed"), OSError("gone"), MemoryError()])
def test_a_failed_read_gives_nothing(reads: AdapterReads, error: Exception) -> None:
    """Whoever needs the adapter reads it again and hears what is wrong by then."""
    reads.begin(1, failing(error))
    assert reads.take(1) is None


def test_a_mistake_in_the_code_is_not_hidden(reads: AdapterReads) -> None:
    """Only what files and memory can do is tried again."""
    reads.begin(1, failing(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        reads.take(1)


def test_close_ends_the_thread() -> None:
    """After the file that is being read; what waits is never read."""
    others = {*threading.enumerate()}
    reads = AdapterReads()
    reads.close()
    begun, may_end, read = gated()
    reads.begin(1, read)
    reads.begin(2, failing(AssertionError()))
    assert begun.wait(10)
    threading.Timer(0.05, may_end.set).start()
    reads.close()
    assert not [t for t in threading.enumerate() if t not in others and t.name.startswith("adapters")]
