"""Prompt files: what each format yields, and where an unreadable place is said to be."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asynckit.errors import InputError
from asynckit.rollout.config import PromptsConfig
from asynckit.rollout.prompting.prompt_files import read_rows
from asynckit.rollout.prompting.prompts import load_prompts


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        load_prompts(PromptsConfig(source=str(path)))
    return caught.value


ROWS = [{"prompt": "a", "answer": "1"}, {"prompt": "b, c\nd", "answer": None}]


@pytest.mark.parametrize("name", ["p.jsonl", "p.ndjson", "p.json", "p.parquet", "p.csv", "P.JSONL"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    """The format of a file is a matter of taste, not of meaning."""
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif name.endswith("csv"):
        path.write_text('prompt,answer\na,1\n"b, c\nd",\n')
    else:
        path.write_text(json.dumps(ROWS) if name == "p.json" else "\n".join(map(json.dumps, ROWS)))
    assert [row for row, _ in read_rows(path)] == ROWS


def test_lines_are_counted_as_editors_count_them(tmp_path: Path) -> None:
    """Blank lines, CRLF, a byte-order mark and U+2028 in a string do not shift the line that is named."""
    text = '\ufeff{"prompt": "a\u2028b"}\r\n\r\n{"prompt": "c"}\r\n'
    rows = list(read_rows(write(tmp_path, "p.jsonl", text)))
    assert [(row["prompt"], where.rpartition(":")[2]) for row, where in rows] == [
        ("a\u2028b", "1"),
        ("c", "3"),
    ]


def test_csv_rows_are_placed_by_their_first_line(tmp_path: Path) -> None:
    """A quoted field may span lines; the error still points at where its row begins."""
    path = write(tmp_path, "p.csv", 'prompt,answer\n"a\nb",1\n"c",2\n')
    assert [where.rpartition(":")[2] for _, where in read_rows(path)] == ["2", "4"]


@pytest.mark.parametrize(
    ("name", "content", "place", "message"),
    [
        ("p.jsonl", '{"prompt": "a"}\n{"prompt": }\n', ":2:12", "not valid JSON"),
        ("p.jsonl", '{"prompt": "a"} {"prompt": "b"}\n', ":1:17", "Extra data"),
        ("p.jsonl", '{"prompt": "a"}\n["b"]\n', ":2", "expected an object"),
        ("p.jsonl", '{"prompt": "a", "answer": NaN}\n', ":1", "NaN is no JSON value"),
        ("p.jsonl", '{"prompt": "a", "answer": 1e999}\n', ":1", "answer holds inf"),
        ("p.jsonl", "[" * 100_000, ":1", "not valid JSON"),
        ("p.jsonl", b'{"prompt": "a"}\n{"prompt": "\xff"}\n', ":2:13", "0xff is not valid UTF-8"),
        ("p.jsonl", b'\xef\xbb\xbf{"p": "\xff"}\n', ":1:8", "0xff is not valid UTF-8"),
        ("p.jsonl", "", "p.jsonl", "no prompts"),
        ("p.json", "", "p.json", "no prompts"),
        ("p.json", "[]", "p.json", "no prompts"),
        ("p.json", '{"prompt": "a"}', ":1", "expected a list of objects, found an object"),
        ("p.json", '{"prompt": "a"}\n{"prompt": "b"}\n', ":2:1", "rename the file to .jsonl"),
        ("p.json", '[{"prompt": "a"}, {}]', ":item 2", "no prompt"),
        ("p.parquet", "PAR1 not really", "p.parquet", "not a readable Parquet file"),
        ("p.csv", "", "p.csv", "no prompts"),
        ("p.csv", "prompt,answer\n", "p.csv", "no prompts"),
        ("p.csv", "prompt,answer\na,1\nb,2,3\n", ":3", "another number of fields"),
        ("p.csv", "prompt,answer\na\n", ":2", "another number of fields"),
        ("p.csv", 'prompt\n"a" b\n', ":2", "not valid CSV"),
        ("p.csv", "prompt,answer\n,1\n", ":2", "the prompt is empty"),
        ("p.txt", "hello", "p.txt", "no reader for files that end in '.txt'"),
    ],
)
def test_unreadable_content_is_refused_with_its_place(
    tmp_path: Path, name: str, content: bytes | str, place: str, message: str
) -> None:
    """Whatever is in the file, the person hears what is wrong and where."""
    error = refusal(write(tmp_path, name, content))
    assert message in str(error)
    assert error.where.endswith(place)


def test_missing_file_names_the_near_miss(tmp_path: Path) -> None:
    """A typing error costs one look."""
    write(tmp_path, "train.jsonl", "")
    assert refusal(tmp_path / "trian.jsonl").mend == "did you mean train.jsonl?"
    assert "no such folder" in refusal(tmp_path / "nowhere" / "train.jsonl").message
    assert "is a folder" in refusal(tmp_path).message


def test_parquet_values_become_json(tmp_path: Path) -> None:
    """Dates and decimals are kept as text, so that records can carry them; rows are counted from 1."""
    day = dt.date(2025, 1, 2)
    rows: list[dict[str, Any]] = [{"prompt": "a", "answer": Decimal("1.50"), "day": day}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    (prompt,) = load_prompts(PromptsConfig(source=str(tmp_path / "p.parquet")))
    assert (prompt.ground_truth, prompt.extra) == ("1.50", {"day": "2025-01-02"})
    assert prompt.where.endswith("p.parquet:row 1")


def test_parquet_messages_of_unequal_keys(tmp_path: Path) -> None:
    """Arrow fills absent keys with null, which is no extra key of the message."""
    rows = [{"prompt": [{"role": "user", "content": "a", "name": None}]}]
    schema = pa.schema(
        [("prompt", pa.list_(pa.struct([(key, pa.string()) for key in ("role", "content", "name")])))]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "p.parquet")
    (prompt,) = load_prompts(PromptsConfig(source=str(tmp_path / "p.parquet")))
    assert prompt.chat() == [{"role": "user", "content": "a"}]
