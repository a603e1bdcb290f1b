"""JSON, CSV and plain text, which are cut at ends of records."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from read_inputs import read_inputs

from asynckit.errors import InputError
from asynckit.tokenization.inputs.csv_lines import ends_of_csv_records, rows_of_csv

_TEXTS = st.text(st.sampled_from('ab",\\\n\r [{}]é猫\t;'), max_size=20)


@given(
    texts=st.lists(_TEXTS, max_size=12),
    indent=st.sampled_from([None, 0, 2]),
    wrapped=st.booleans(),
    unit=st.integers(1, 100),
)
def test_json_is_read_in_blocks(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], indent: int | None, wrapped: bool, unit: int
) -> None:
    """The elements of a list, or objects one after another, come out whole wherever they are cut."""
    path = tmp_path_factory.mktemp("inputs") / "a.json"
    records = [{"x": ["[", {}], "text": text} for text in texts]
    parts = [json.dumps(record, indent=indent) for record in records]
    data = json.dumps(records, indent=indent) if wrapped else "\n".join(parts)
    path.write_text(data)
    read = read_inputs(path, unit_bytes=unit)
    assert [row[0] for row in read.rows] == texts
    for start, end, line, record in zip(read.starts, read.ends, read.lines, records, strict=True):
        assert json.loads(data[start:end]) == record
        assert data.count("\n", 0, start) == line


@pytest.mark.parametrize(
    ("data", "reason", "rows"),
    [
        ('[{"text": "a"}, {"text": "b"}', "the list is cut off", ["a", "b"]),
        ('[{"text": "a"}, {"text": "b"', "an object that is never closed", ["a"]),
        ('[{"text": "a"}, 3, {"text": "b"}]', "something else than an object", ["a", "b"]),
        ('[{"text": "a"} {"text": "b"}]', "a comma too many or too few", ["a", "b"]),
        ('[{"text": "a"}, {"text": b}, {"text": "c"}]', "not valid JSON", ["a", "c"]),
        ('[{"text": "a"}] and more', "something else than an object", ["a"]),
        ("hello", "something else than an object", []),
        ('["a", "b"]', "something else than an object", []),
        ('{"data": [{"text": "a"}]}', "no field 'text'; it has data", []),
    ],
)
def test_broken_json(tmp_path: Path, data: str, reason: str, rows: list[str]) -> None:
    """What is wrong is named, and what is whole is read with skip."""
    path = tmp_path / "a.json"
    path.write_text(data)
    with pytest.raises(InputError) as caught:
        read_inputs(path)
    assert reason in caught.value.message
    read = read_inputs(path, on_error="skip")
    assert [row[0] for row in read.rows] == rows
    assert reason in read.skipped[0].reason


@given(
    rows=st.lists(st.tuples(_TEXTS, st.sampled_from(["1", "x y", '"'])), max_size=12),
    newline=st.sampled_from(["\n", "\r\n"]),
    unit=st.integers(1, 60),
)
def test_csv_is_read_in_blocks(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], newline: str, unit: int
) -> None:
    """Quoted fields with line breaks, quotes and commas are one field wherever the file is cut."""
    path = tmp_path_factory.mktemp("inputs") / "a.csv"
    written = io.StringIO()
    # Only with \r\n does the writer quote what holds a \r.
    if newline == "\r\n":
        writer = csv.writer(written)
    else:
        writer = csv.writer(written, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "id"), *rows])
    data = written.getvalue().encode()
    path.write_bytes(data)
    read = read_inputs(path, unit_bytes=unit)
    assert [row[0] for row in read.rows] == [row[0] for row in rows]
    for start, end, row in zip(read.starts, read.ends, rows, strict=True):
        assert tuple(next(csv.reader(io.StringIO(data[start:end].decode(), newline="")))) == row


@given(
    data=st.text(st.sampled_from('a",\n\r'), max_size=40).map(lambda text: f"text,id\n{text}\n"),
    unit=st.integers(1, 20),
)
@example(data='text,id\n5" pipe,"a\nb"\n1,2\n', unit=9)
@example(data='text,id\n\r,"\n"\na\n', unit=1)
@example(data='text,id\n"a"b,1\n"c\nd",2\n', unit=9)
def test_odd_csv_is_cut_as_it_is_read(tmp_path_factory: pytest.TempPathFactory, data: str, unit: int) -> None:
    """Quotes in odd places do not move a cut into a row, and where cuts are depends on the bytes alone."""
    path = tmp_path_factory.mktemp("inputs") / "a.csv"
    path.write_bytes(data.encode())
    assert read_inputs(path, on_error="skip", unit_bytes=unit)[:5] == read_inputs(path, on_error="skip")[:5]
    if "\r" in data:
        return
    lines = [line for row, line in rows_of_csv(data.encode(), ",") if str(row) != "unexpected end of data"]
    ends = [len("".join(data.splitlines(keepends=True)[:line])) for line in lines]
    assert ends_of_csv_records(data.encode(), ",").tolist() == ends


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"1,2,3", "the row has 3 fields, the first row 2"),
        (b'"a"b,1', "not valid CSV"),
        (b"\xff,1", "not valid UTF-8"),
    ],
)
def test_broken_rows_of_csv(tmp_path: Path, row: bytes, reason: str) -> None:
    """Each is named by its line, or skipped."""
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,id\n"a\nb",1\n' + row + b"\nc,1\n")
    with pytest.raises(InputError) as caught:
        read_inputs(path)
    assert reason in caught.value.message
    assert caught.value.where == f"{path}:4"
    read = read_inputs(path, on_error="skip")
    assert read.rows == [("a\nb",), ("c",)]
    assert [skipped.line for skipped in read.skipped] == [3]


def test_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    """The row is named in which it was opened."""
    path = tmp_path / "a.tsv"
    path.write_text('text\tid\na\t1\n"b\t2\nc\t3\n')
    with pytest.raises(InputError, match="a quote is never closed") as caught:
        read_inputs(path)
    assert caught.value.where == f"{path}:3"


def test_columns_of_csv_are_named_in_its_first_row(tmp_path: Path) -> None:
    """A wrong field is refused with what was probably meant; a mark at the beginning is no part of it."""
    path = tmp_path / "a.csv"
    path.write_text("\ufefftext,id\na,1\n")
    assert read_inputs(path).rows == [("a",)]
    with pytest.raises(InputError, match="no field 'txt'; it has text, id") as caught:
        read_inputs(path, fields=("txt",))
    assert caught.value.mend == "did you mean text?"


def _paragraphs(data: str) -> list[str]:
    found: list[list[str]] = [[]]
    for line in data.split("\n"):
        if line.strip(" \t\r\x0b\x0c"):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return ["\n".join(lines).removesuffix("\r") for lines in found if lines]


@given(data=st.text(st.sampled_from("ab é猫\n\r\t"), max_size=60), unit=st.integers(1, 30))
def test_plain_text(tmp_path_factory: pytest.TempPathFactory, data: str, unit: int) -> None:
    """A document is the file, a line that is not blank, or what stands between blank lines."""
    path = tmp_path_factory.mktemp("inputs") / "a.txt"
    path.write_bytes(data.encode())

    def texts(**settings: Any) -> list[str]:
        read = read_inputs(path, unit_bytes=unit, **settings)
        raw, found = data.encode(), [row[0] for row in read.rows]
        assert [raw[a:b].decode() for a, b in zip(read.starts, read.ends, strict=True)] == found
        return found

    assert texts() == ([data] if data else [])
    lines = [line.removesuffix("\r") for line in data.split("\n")]
    assert texts(text_unit="line") == [line for line in lines if line.strip()]
    assert texts(text_unit="paragraph") == _paragraphs(data)


def test_text_that_is_no_utf8(tmp_path: Path) -> None:
    """The line is named, or left out; a file that looks like UTF-16 gets the command that converts it."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\n\xe9\nb\n")
    with pytest.raises(InputError, match="byte 0xe9 in column 1") as caught:
        read_inputs(path, text_unit="line")
    assert caught.value.where == f"{path}:2"
    assert read_inputs(path, text_unit="line", on_error="skip").rows == [("a",), ("b",)]
    path.write_bytes("héllo".encode("utf-16"))
    with pytest.raises(InputError) as caught:
        read_inputs(path)
    assert "iconv -f UTF-16" in caught.value.mend


def test_plain_text_has_no_chats(tmp_path: Path) -> None:
    """It is refused before anything is read."""
    path = tmp_path / "a.txt"
    path.write_text("hello")
    with pytest.raises(InputError, match="plain text has no fields"):
        read_inputs(path, fields=("messages",), mode="chat")
