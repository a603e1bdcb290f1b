"""What is written depends on the inputs, the tokenizer and the settings alone."""

import contextlib
import gzip
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inline_pool import InlinePool, Killed

from asynckit.errors import InputError, WorkFailed
from asynckit.models.config import ModelConfig
from asynckit.tokenization.closing import close_output
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.inputs.listing import list_sources
from asynckit.tokenization.journal import SCHEMA, Journal
from asynckit.tokenization.outputs.manifest import Manifest
from asynckit.tokenization.pipeline import Pipeline
from asynckit.tokenization.progress import TokenizingProgress
from asynckit.tokenization.streams import Items
from asynckit.tokenization.tasks import Job, Worker

WORDS = ["fox", "dog", "jumps over", "lazy", "1 2 3", "é 世 🙂", "answer: forty two", "\n\n"]
SMALL = TokenizationConfig(unit_bytes=1 << 10, shard_bytes=3 << 10, check_share=0.01, eos="none")
MakePool = Callable[[Worker], InlinePool]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A file that is read in ranges, a compressed one, and one with a broken line."""
    folder = tmp_path_factory.mktemp("inputs")
    chance = seeded()
    lines = [
        json.dumps({"text": " ".join(chance.choices(WORDS, k=chance.randint(0, 40)))}) for _ in range(80)
    ]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(reversed(lines)).encode(), mtime=0))
    (folder / "c.jsonl").write_text("\n".join([*lines[:9], "{", *lines[9:20]]))
    return [str(folder / name) for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl")]


def make(
    inputs: list[str], tokenizer: Path, out: Path, config: TokenizationConfig, pool: MakePool
) -> Manifest:
    """What ``asynckit tokenize`` does, with a pool of the test's."""
    sources = tuple(list_sources(inputs, config))
    worker = Worker(Job(ModelConfig(tokenizer=str(tokenizer)), config, sources))
    plan: dict[str, Any] = {"schema": SCHEMA, "options": {}, "tokenizer": {}, "inputs": []}
    with Journal.open(out, plan, overwrite=False) as journal:
        items = Items(sources, config, journal.blocks, streams=1)
        progress = TokenizingProgress(None, quiet=True)
        try:
            Pipeline(sources, items, pool(worker), journal, worker.shard_settings, progress).run()
        finally:
            items.close()
        return close_output(journal, sources, worker, worker.tokenizer_record, {})


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of an output."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def seeded() -> random.Random:
    return random.Random(0)  # noqa: S311 - no secret depends on it


def calm(worker: Worker) -> InlinePool:
    return InlinePool(worker, 1, seeded())


@pytest.mark.parametrize("layout", [{}, {"format": "npy", "pack_length": 64}, {"format": "parquet"}])
def test_any_order_of_work_and_any_deaths_give_the_same_bytes(
    layout: dict[str, Any], inputs: list[str], tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Workers finish when they like, die now and then, and everything is killed in between."""
    config = replace(SMALL, on_error="skip", **layout)
    if config.pack_length:
        config = replace(config, eos="add")
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    manifest = make(inputs, tiny_tokenizer, undisturbed, config, calm)
    assert manifest.totals.documents == 180
    assert manifest.totals.skipped == 1
    assert len(manifest.shards) > 3
    expected = digests(undisturbed)

    @settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False), st.integers(1, 4), st.lists(st.integers(1, 40), max_size=4))
    def check(chance: random.Random, workers: int, kills: list[int]) -> None:
        def pool(tasks: int | None) -> MakePool:
            deaths = 0.05 if tasks else 0.0
            return lambda worker: InlinePool(worker, workers, chance, deaths=deaths, tasks=tasks)

        out = tmp_path_factory.mktemp("disturbed")
        for tasks in kills:
            with contextlib.suppress(Killed, WorkFailed):  # one unit may have lost three workers
                make(inputs, tiny_tokenizer, out, config, pool(tasks))
        make(inputs, tiny_tokenizer, out, config, pool(None))
        assert digests(out) == expected

    check()


def test_what_is_done_is_not_done_again(inputs: list[str], tiny_tokenizer: Path, tmp_path: Path) -> None:
    """After a kill only the units and shards that are missing are made."""
    config = replace(SMALL, on_error="skip")
    pools: list[InlinePool] = []

    def pool(worker: Worker) -> InlinePool:
        pools.append(InlinePool(worker, 1, seeded(), tasks=17 if not pools else None))
        return pools[-1]

    with pytest.raises(Killed):
        make(inputs, tiny_tokenizer, tmp_path / "out", config, pool)
    make(inputs, tiny_tokenizer, tmp_path / "out", config, pool)
    whole: list[InlinePool] = []

    def another(worker: Worker) -> InlinePool:
        whole.append(calm(worker))
        return whole[-1]

    make(inputs, tiny_tokenizer, tmp_path / "whole", config, another)
    assert pools[0].done + pools[1].done == whole[0].done


@pytest.mark.parametrize("torn", [b"", b"\0" * 4096, None])
def test_a_part_that_a_power_cut_has_torn_is_made_again(
    torn: bytes | None, inputs: list[str], tiny_tokenizer: Path, tmp_path: Path
) -> None:
    """Parts are not synced: one without its bytes is no reason to stop."""
    config = replace(SMALL, on_error="skip", shard_bytes=0)
    make(inputs, tiny_tokenizer, tmp_path / "whole", config, calm)
    with pytest.raises(Killed):
        make(
            inputs,
            tiny_tokenizer,
            tmp_path / "out",
            config,
            lambda worker: InlinePool(worker, 1, seeded(), tasks=9),
        )
    part = min((tmp_path / "out" / ".work" / "parts").iterdir())
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content if torn is None else torn)
    make(inputs, tiny_tokenizer, tmp_path / "out", config, calm)
    expected, found = digests(tmp_path / "whole"), digests(tmp_path / "out")
    assert found == expected


def test_a_broken_record_stops_the_work_and_keeps_the_rest(
    inputs: list[str], tiny_tokenizer: Path, tmp_path: Path
) -> None:
    """The error names the line; once it is mended elsewhere, what was finished is still there."""
    with pytest.raises(InputError) as raised:
        make(inputs, tiny_tokenizer, tmp_path / "out", SMALL, calm)
    assert raised.value.where.endswith("c.jsonl:10")
    assert list((tmp_path / "out" / ".work" / "shards").iterdir())


def test_what_is_skipped_is_listed_with_its_line(
    inputs: list[str], tiny_tokenizer: Path, tmp_path: Path
) -> None:
    manifest = make(inputs, tiny_tokenizer, tmp_path, replace(SMALL, on_error="skip"), calm)
    (listed,) = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert listed["where"].endswith("c.jsonl:10")
    assert [each.skipped for each in manifest.inputs] == [0, 0, 1]
    assert [each.documents for each in manifest.inputs] == [80, 80, 20]


@pytest.mark.parametrize("name", ["b.parquet", "b.arrow"])
def test_a_file_that_cannot_be_opened_is_skipped(name: str, tiny_tokenizer: Path, tmp_path: Path) -> None:
    """A file of rows that is cut off has lost what says where its rows are; the other files still count."""
    (tmp_path / "a.jsonl").write_text('{"text": "fox"}\n')
    (tmp_path / name).write_bytes(b"PAR1")
    config = replace(SMALL, on_error="skip")
    both = [str(tmp_path / each) for each in ("a.jsonl", name)]
    manifest = make(both, tiny_tokenizer, tmp_path / "out", config, calm)
    assert [(each.documents, each.skipped) for each in manifest.inputs] == [(1, 0), (0, 1)]
    with pytest.raises(InputError, match="is damaged"):
        make(both, tiny_tokenizer, tmp_path / "other", SMALL, calm)


def test_pairs_are_counted_as_pairs(tiny_tokenizer: Path, tmp_path: Path) -> None:
    """A bound on documents is not one on prompts and completions, of which there are twice as many."""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"prompt": "q {n}", "completion": "a {n}"}}\n' for n in range(20)))
    config = replace(SMALL, mode="pairs", check_share=1.0)
    assert make([str(path)], tiny_tokenizer, tmp_path / "out", config, calm).encoder.checked_documents == 20


def test_a_unit_that_kills_every_worker_ends_the_work(
    inputs: list[str], tiny_tokenizer: Path, tmp_path: Path
) -> None:
    """It is not tried for ever."""
    with pytest.raises(WorkFailed, match="3 worker processes died") as raised:
        make(
            inputs,
            tiny_tokenizer,
            tmp_path,
            SMALL,
            lambda worker: InlinePool(worker, 1, seeded(), deaths=1.0),
        )
    assert raised.value.where.endswith("a.jsonl, 0 to 1,024")


def test_a_stream_that_brings_other_bytes_is_refused(tiny_tokenizer: Path, tmp_path: Path) -> None:
    """What was tokenized before would not belong to what comes now."""
    lines = [json.dumps({"text": f"{number} quick fox"}) for number in range(200)]
    name = tmp_path / "a.jsonl.gz"
    name.write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(Killed):
        make(
            [str(name)],
            tiny_tokenizer,
            tmp_path / "out",
            SMALL,
            lambda worker: InlinePool(worker, 1, seeded(), tasks=3),
        )
    lines[0] = lines[0].replace("0", "7")
    name.write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(InputError, match="are others than when the output was begun"):
        make([str(name)], tiny_tokenizer, tmp_path / "out", SMALL, calm)
