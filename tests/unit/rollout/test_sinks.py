"""The sink: parts are cut by size and age, written whole, and read back in order."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.errors import InputError, WorkFailed
from asynckit.rollout.record import EngineInfo, Trajectory
from asynckit.rollout.sinks import TrajectorySink, read_trajectories

FORMATS = ("parquet", "jsonl")


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def samples(*numbers: int) -> list[Trajectory]:
    engine = EngineInfo("simulated", "m", "d")
    blank = Trajectory("", "g", 0, "completed", [], "sums", engine)
    return [replace(blank, uid=str(number)) for number in numbers]


def uids(folder: Path) -> list[str]:
    return [trajectory.uid for trajectory in read_trajectories(folder)]


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_appended_is_read_back_in_order(tmp_path: Path, kind: str) -> None:
    """Parts of either format hold every sample once, in order; only complete parts have a name."""
    sink = TrajectorySink(tmp_path, kind, part_samples=2, part_seconds=60)
    sink.append(samples(0))
    assert (sink.parts, sink.samples_written) == ([], 0)
    sink.append(samples(1, 2))
    sink.append(samples(3))
    sink.close()
    assert sink.parts == [tmp_path / f"part-000000.{kind}", tmp_path / f"part-000001.{kind}"]
    assert sink.samples_written == 4
    assert uids(tmp_path) == ["0", "1", "2", "3"]
    assert sorted(tmp_path.iterdir()) == sink.parts


def test_a_part_is_due_by_the_age_of_its_first_sample(tmp_path: Path) -> None:
    """Slow runs get their samples on disk too: the owner learns when, and a late append flushes by itself."""
    clock = Clock()
    sink = TrajectorySink(tmp_path, "jsonl", part_samples=100, part_seconds=30, clock=clock)
    assert sink.due() is None
    sink.append([])
    assert sink.due() is None
    clock.now = 5
    sink.append(samples(0))
    assert sink.due() == 30
    clock.now = 25
    sink.append(samples(1))
    assert (sink.due(), sink.samples_written) == (10, 0)
    clock.now = 50
    assert sink.due() == 0
    sink.append(samples(2))
    assert (sink.due(), sink.samples_written) == (None, 3)
    sink.flush()
    assert len(sink.parts) == 1


def test_a_second_sink_continues_the_numbering(tmp_path: Path) -> None:
    """A later sink in the same folder never writes over a part, whatever its format."""
    for number, kind in enumerate(FORMATS):
        sink = TrajectorySink(tmp_path, kind, part_samples=1, part_seconds=1)
        sink.append(samples(number))
    assert uids(tmp_path) == ["0", "1"]
    assert sink.parts == [tmp_path / "part-000001.jsonl"]


@given(groups=st.lists(st.integers(0, 5), max_size=12), part_samples=st.integers(1, 6))
def test_any_cutting_keeps_every_sample(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], part_samples: int
) -> None:
    """However appends fall, nothing is lost, doubled or reordered, and no part is needlessly short."""
    folder = tmp_path_factory.mktemp("parts")
    sink = TrajectorySink(folder, "jsonl", part_samples, part_seconds=60)
    count = 0
    for size in groups:
        sink.append(samples(*range(count, count + size)))
        count += size
    sink.close()
    assert uids(folder) == [str(number) for number in range(count)]
    lengths = [len(path.read_text().splitlines()) for path in sink.parts]
    assert sum(lengths) == sink.samples_written == count
    assert all(length >= part_samples for length in lengths[:-1])
    assert 0 not in lengths


@pytest.mark.parametrize("kind", FORMATS)
def test_a_failing_disk_keeps_earlier_parts_and_waiting_samples(tmp_path: Path, kind: str) -> None:
    """After the disk is mended the same samples are written; nothing half written is left."""
    sink = TrajectorySink(tmp_path, kind, part_samples=1, part_seconds=60)
    sink.append(samples(0))
    blocker = tmp_path / f"part-000001.{kind}" / "x"
    blocker.mkdir(parents=True)
    with pytest.raises(WorkFailed, match="cannot be written") as caught:
        sink.append(samples(1))
    assert caught.value.where == str(blocker.parent)
    assert not list(tmp_path.glob(".*"))
    blocker.rmdir()
    blocker.parent.rmdir()
    assert uids(tmp_path) == ["0"]
    sink.close()
    assert uids(tmp_path) == ["0", "1"]


def test_appends_from_several_threads_lose_and_double_nothing(tmp_path: Path) -> None:
    """An owner on an event loop appends in threads, and may close while one of them still writes."""
    sink = TrajectorySink(tmp_path, "jsonl", part_samples=3, part_seconds=60)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: sink.append(samples(number)), range(200)))
        list(threads.map(lambda _: sink.close(), range(8)))
    assert sorted(map(int, uids(tmp_path))) == list(range(200))
    assert sink.samples_written == 200


def test_a_vanished_folder_is_a_failure(tmp_path: Path) -> None:
    """A run directory that is deleted under the run ends it with the path."""
    (tmp_path / "t").mkdir()
    sink = TrajectorySink(tmp_path / "t", "parquet", part_samples=1, part_seconds=60)
    (tmp_path / "t").rmdir()
    with pytest.raises(WorkFailed, match="No such file"):
        sink.append(samples(0))


def test_a_full_disk_is_a_failure(tmp_path: Path) -> None:
    """ENOSPC from the device reaches the person, and not as a traceback."""
    (tmp_path / ".part-000000.jsonl.tmp").symlink_to("/dev/full")
    sink = TrajectorySink(tmp_path, "jsonl", part_samples=1, part_seconds=60)
    with pytest.raises(WorkFailed, match="No space left"):
        sink.append(samples(0))
    sink.flush()
    assert uids(tmp_path) == ["0"]


def test_a_record_that_breaks_an_invariant_never_reaches_a_part(tmp_path: Path) -> None:
    """The mistake surfaces where the record is handed over."""
    sink = TrajectorySink(tmp_path, "jsonl", part_samples=1, part_seconds=60)
    with pytest.raises(AssertionError):
        sink.append([replace(samples(0)[0], status="done")])
    assert sink.due() is None


def test_unreadable_parts_are_refused_with_their_place(tmp_path: Path) -> None:
    """A damaged or foreign part is named; half-written hidden files are not looked at."""
    with pytest.raises(InputError, match="no such folder"):
        list(read_trajectories(tmp_path / "none"))
    (tmp_path / ".part-000000.jsonl.tmp").write_text("{")
    (tmp_path / "notes.txt").write_text("mine")
    assert uids(tmp_path) == []
    contents = {"part-000000.jsonl": b"{}\n", "part-000000.parquet": b"PAR1", "part-000001.jsonl": b"\xff\n"}
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            list(read_trajectories(tmp_path))
        assert caught.value.where.startswith(str(path))
        path.unlink()


def test_a_foreign_table_is_refused(tmp_path: Path) -> None:
    """A Parquet file without the schema's name is not taken for trajectories."""
    pq.write_table(pa.table({"a": [1]}), tmp_path / "part-000000.parquet")
    with pytest.raises(InputError, match="schema is missing"):
        list(read_trajectories(tmp_path))
