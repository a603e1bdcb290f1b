"""Traces: lengths come from the records nearest to the prompt, in files that are read with care."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.engine.trace import Trace, read_trace
from asynckit.errors import InputError

counts = st.integers(1, 60)


@given(st.lists(st.tuples(counts, counts), min_size=1, max_size=90), counts)
def test_draws_come_from_the_nearest_records(pairs: list[tuple[int, int]], prompt: int) -> None:
    """A fine grid of draws gives the responses of all records within the 32nd nearest distance."""
    distances = sorted(abs(recorded - prompt) for recorded, _ in pairs)
    reach = distances[min(32, len(pairs)) - 1]
    nearest = {response for recorded, response in pairs if abs(recorded - prompt) <= reach}
    trace = Trace(pairs)
    assert {trace.response_tokens(prompt, step / 1000) for step in range(1000)} == nearest


def test_a_jsonl_file_is_read(tmp_path: Path) -> None:
    """One pair a line; empty lines don't matter."""
    file = tmp_path / "t.jsonl"
    file.write_text('{"prompt_tokens": 4, "response_tokens": 9}\n\n')
    assert read_trace(file).response_tokens(100, 0.5) == 9


def trajectory(status: str, prompt: int, response: int) -> dict[str, object]:
    return {"status": status, "prompt_ids": [1] * prompt, "response_ids": [1] * response}


RECORDS = [
    trajectory("completed", 4, 9),
    trajectory("truncated", 4, 20),
    trajectory("failed", 4, 0),
    trajectory("cancelled", 4, 3),
]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_run_directory_is_read(tmp_path: Path, kind: str) -> None:
    """Finished samples count; a truncated one would have been longer, so it is truncated again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "trajectories"
    folder.mkdir()
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(RECORDS), folder / "part-000000.parquet")
    else:
        (folder / "part-000000.jsonl").write_text("\n".join(map(json.dumps, RECORDS)))
    trace = read_trace(tmp_path)
    assert [trace.response_tokens(4, u) for u in (0, 0.49, 0.5, 0.99)] == [9, 9, 21, 21]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not a record of lengths"),
        ("[]", "not a record of lengths"),
        ("3", "not a record of lengths"),
        ('{"prompt_tokens": 1}', "there is no 'response_tokens'"),
        ('{"prompt_tokens": 1, "response_tokens": 0}', "no token counts"),
        ('{"prompt_tokens": 1.5, "response_tokens": 2}', "no token counts"),
        ('{"prompt_tokens": true, "response_tokens": 2}', "no token counts"),
        ('{"prompt_ids": 5, "response_ids": [], "status": "completed"}', "not a record of lengths"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    """The error has the file and the line."""
    file = tmp_path / "t.jsonl"
    file.write_text('{"prompt_tokens": 4, "response_tokens": 9}\n' + line)
    with pytest.raises(InputError, match=words) as caught:
        read_trace(file)
    assert caught.value.where == f"{file}:2"


def test_what_holds_no_lengths_is_refused(tmp_path: Path) -> None:
    """An empty file, a folder without a run, and a file that is no Parquet."""
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(InputError, match="no finished responses"):
        read_trace(empty)
    with pytest.raises(InputError, match="no trajectories/part-"):
        read_trace(tmp_path)
    (tmp_path / "trajectories").mkdir()
    (tmp_path / "trajectories/part-000000.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match="not a file of trajectories"):
        read_trace(tmp_path)
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="can't be read"):
        read_trace(binary)
