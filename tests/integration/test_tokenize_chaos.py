"""Whatever is killed, whenever: the same command again ends with the bytes of an undisturbed run."""

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import environment
from processes import kill
from small_disks import grow, small_disk

DOCUMENTS = 12_000
DEATHS = 17  # with each kind of input, so fifty-one in all
VICTIMS = ("command", "worker", "everything")
PIECES = (f"tokenization.unit_bytes={16 << 10}", f"tokenization.shard_bytes={192 << 10}")
WORDS = (
    "quick",
    "brown",
    "fox",
    "don't",
    "answer:",
    "42",
    "=",
    "+",
    "\n",
    "\t",
    "München",
    "東京",
    "مرحبا",
    "🦊",
)


def documents() -> list[str]:
    """Texts of very different lengths, the same every time; some are empty."""
    chance = random.Random(0)  # noqa: S311 - no secret
    lengths = [int(chance.lognormvariate(3.0, 1.2)) for _ in range(DOCUMENTS)]
    return [" ".join(chance.choices(WORDS, k=length)) for length in lengths]


def jsonl(path: Path) -> None:
    lines = (json.dumps({"text": text}) + "\n" for text in documents())
    path.write_text("".join(lines))


def gzipped(path: Path) -> None:
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents())
    path.write_bytes(gzip.compress(lines.encode(), 1, mtime=0))


def parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": documents()}), path, row_group_size=200, compression="none")


CASES: dict[str, tuple[Callable[[Path], None], str, tuple[str, ...]]] = {
    "texts.jsonl": (jsonl, "megatron", ("tokenization.encoder=tokenizers",)),
    "texts.jsonl.gz": (gzipped, "npy", ("tokenization.encoder=tokenizers", "tokenization.pack_length=128")),
    "texts.parquet": (parquet, "parquet", ()),
}


def command(model: Path, source: Path, out: Path, *settings: str, workers: int, shape: str) -> list[str]:
    """Tokenize a file in small pieces."""
    inputs = ["tokenize", str(source), "--tokenizer", str(model), "--out", str(out), "--format", shape]
    values = (*PIECES, f"tokenization.workers={workers}", *settings)
    options = [word for value in values for word in ("--set", value)]
    return [sys.executable, "-m", "asynckit", *inputs, "--quiet", *options]


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, hidden ones too, by name."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Watch:
    """Looks at what an unfinished output has got."""

    def __init__(self, out: Path, all_files: int) -> None:
        self._out, self._all_files = out, all_files
        self._seen: set[str] = set()

    def steps(self) -> int:
        """How many units and shards have been finished until now, in all attempts."""
        for name in ("parts", "shards"):
            with suppress(FileNotFoundError):  # not made yet, or gone because all is finished
                found = os.listdir(self._out / ".work" / name)  # noqa: PTH208 - this is the quickest
                self._seen.update(each for each in found if not each.startswith("."))
        return len(self._seen)

    def at_the_end(self) -> bool:
        """Whether there is nothing left but the last shard and the manifest."""
        return sum(not path.name.startswith(".") for path in self._out.glob("*")) >= self._all_files - 4


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    with suppress(OSError):  # it ended
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return []


def strike(
    process: subprocess.Popen[bytes], victim: str, due: Callable[[], bool], chance: random.Random
) -> bool:
    """Kill one of a command's processes, or all, as soon as it is due.

    Returns whether there was something to kill before the command ended.
    """
    deadline = time.monotonic() + 60
    while process.poll() is None:
        assert time.monotonic() < deadline
        if due():
            workers = children(process.pid)
            if victim == "command":
                kill([process.pid])
            elif victim == "everything":
                kill([process.pid, *workers])
            elif workers:
                kill([chance.choice(workers)])
            if victim != "worker" or workers:
                return True
        time.sleep(0.001)
    return False


@pytest.mark.parametrize("name", CASES)
def test_seventeen_deaths_change_no_byte(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    """The command, a worker, or all of them at once, when a few more units are done, or nearly everything."""
    write, shape, settings = CASES[name]
    source, out = tmp_path / name, tmp_path / "disturbed"
    write(source)
    calm = command(tiny_llama, source, tmp_path / "calm", *settings, workers=3, shape=shape)
    subprocess.run(calm, env=environment(), check=True, timeout=60)
    expected = digests(tmp_path / "calm")
    todo = command(tiny_llama, source, out, *settings, workers=2, shape=shape)
    chance = random.Random(name)  # noqa: S311 - no secret
    watch, deaths, tries, code = Watch(out, len(expected)), 0, 0, -1
    while code != 0:
        assert tries < 3 * DEATHS
        tries += 1
        with subprocess.Popen(todo, env=environment(), stderr=subprocess.PIPE) as process:
            while deaths < DEATHS:
                victim, moment = chance.choice(VICTIMS), watch.steps() + chance.randrange(10)
                last = deaths == DEATHS - 1
                due = watch.at_the_end if last else lambda moment=moment: watch.steps() >= moment
                deaths += strike(process, victim, due, chance)
                if process.poll() is not None or victim != "worker":
                    break
            assert process.stderr
            errors, code = process.stderr.read().decode(), process.wait(60)
        assert code in (0, -9) or "worker processes died of it" in errors, errors
    assert deaths == DEATHS, "it was over too soon"
    assert digests(out) == expected


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for little."""
    with small_disk(tmp_path / "disk", "600k") as folder:
        yield folder


def test_a_full_disk_ends_the_work_and_loses_nothing(tiny_llama: Path, disk: Path, tmp_path: Path) -> None:
    """With exit code 1 and the mend; once there is room, the same command goes on where it was."""
    source = tmp_path / "texts.jsonl"
    jsonl(source)
    todo = command(tiny_llama, source, disk / "out", workers=2, shape="megatron")
    full = subprocess.run(todo, env=environment(), check=False, capture_output=True, text=True, timeout=60)
    assert full.returncode == 1, full.stderr
    assert "free some space" in full.stderr
    kept = digests(disk / "out")
    finished = {name: each for name, each in kept.items() if name.endswith((".part", ".bin"))}
    assert finished
    grow(disk, "30m")
    calm = command(tiny_llama, source, tmp_path / "calm", workers=1, shape="megatron")
    subprocess.run(todo, env=environment(), check=True, timeout=60)
    subprocess.run(calm, env=environment(), check=True, timeout=60)
    assert digests(disk / "out") == digests(tmp_path / "calm")
