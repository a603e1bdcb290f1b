"""JSON Lines, in byte ranges and in blocks."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from read_inputs import read_inputs

from asynckit.errors import InputError
from asynckit.tokenization.inputs import blocks, line_ranges

_LINES = st.lists(
    st.one_of(
        st.text(max_size=40).map(lambda text: json.dumps({"text": text}, ensure_ascii=False)),
        st.sampled_from(["", "  ", '{"text": 3}', "{broken", '{"id": 1}', '{"text": "\\ud800"}', "\x0c"]),
    )
)


@given(
    lines=_LINES,
    end=st.sampled_from(["", "\n"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
    unit=st.integers(1, 60),
)
def test_units_hold_what_the_whole_file_holds(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str, newline: str, mark: str, unit: int
) -> None:
    """However a file is cut into ranges or blocks, the same records come out of it, at the same places."""
    path = tmp_path_factory.mktemp("inputs") / "a.jsonl"
    data = (mark + newline.join(lines) + end).encode()
    path.write_bytes(data)
    whole = read_inputs(path, on_error="skip")
    ranges = read_inputs(path, on_error="skip", unit_bytes=unit)
    assert ranges[:5] == whole[:5]
    for row, start, stop, line in zip(whole.rows, whole.starts, whole.ends, whole.lines, strict=True):
        assert json.loads(data[start:stop])["text"] == row[0]
        assert data.count(b"\n", 0, start) == line
    for range_, digest in zip(ranges.units, ranges.digests, strict=True):
        assert digest == hashlib.sha256(data[range_.start : range_.end]).hexdigest()
    packed = path.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(data))
    streamed = read_inputs(packed, on_error="skip", unit_bytes=unit)
    assert streamed[:5] == whole[:5]
    assert [unit_.start for unit_ in streamed.units[1:]] == [unit_.end for unit_ in streamed.units[:-1]]


@given(data=st.binary(max_size=80).map(lambda data: b'{"text": "' + data + b'"}\n{"text": "last"}'))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """No bytes make the reader fail otherwise than by refusing a record, and a text is always UTF-8."""
    path = tmp_path_factory.mktemp("inputs") / "a.jsonl"
    path.write_bytes(data)
    read = read_inputs(path, on_error="skip", unit_bytes=16)
    assert read.rows[-1:] == [("last",)] or read.skipped
    for row in read.rows:
        row[0].encode()


def test_a_broken_record_in_a_late_unit_is_named_by_its_line(tmp_path: Path) -> None:
    """The line counts from the file's start, and the error says what to do."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n' * 5000 + '{"text": "x"\n')
    with pytest.raises(InputError, match="not valid JSON") as caught:
        read_inputs(path, unit_bytes=1024)
    assert caught.value.where == f"{path}:5001"
    assert "--on-error skip" in caught.value.mend
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match="not valid JSON") as caught:
        read_inputs(packed, unit_bytes=1024)
    assert caught.value.where == f"{packed}:5001"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a"', "not valid JSON: Expecting ',' delimiter in column 13"),
        ('{"text": "a"} {}', "not valid JSON: Extra data in column 15"),
        ('{"text": "a\tb"}', "not valid JSON: Invalid control character at in column 12"),
        ("{'text': 1}", "not valid JSON"),
        ('["a"]', "the record is a list, not an object"),
        ("12", "the record is a number, not an object"),
        ('{"text": null}', "text is null, not text"),
        ('{"text": 1.5}', "text is a number, not text"),
        ('{"text": {"a": 1}}', "text is an object, not text"),
        ('{"txt": "a", "id": 1}', "no field 'text'; it has txt, id"),
        ("{}", "no field 'text'; it is empty"),
        ('{"text": "\\ud800"}', "text holds \\ud800, half of a surrogate pair"),
        ('{"text": "a\udcff"}', "byte 0xff in column 12 is not valid UTF-8"),
        ('{"text": "a", "x": "\udcff"}', "byte 0xff in column 21 is not valid UTF-8"),
        ('{"text": "\udced\udca0\udc80"}', "byte 0xed in column 11 is not valid UTF-8"),
        ('{"text": "a", "x": ' + "[" * 100_000, "not readable JSON"),
    ],
)
def test_broken_records_are_refused_or_skipped(tmp_path: Path, line: str, reason: str) -> None:
    """Each kind of broken record is named; with skip, the others are read and this one is listed."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "x"}\n' + line.encode("utf-8", "surrogateescape") + b'\n{"text": "y"}\n')
    with pytest.raises(InputError) as caught:
        read_inputs(path)
    assert caught.value.message.startswith(reason)
    assert caught.value.where == f"{path}:2"
    read = read_inputs(path, on_error="skip")
    assert read.rows == [("x",), ("y",)]
    assert [(skipped.start, skipped.line) for skipped in read.skipped] == [(14, 1)]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"text": "a", "text": "b"}', "b"),
        ('{"text": 1, "text": "b"}', "b"),
        ('{"x": NaN, "text": "a"}', "a"),
        ('{"x": "\\ud800", "text": "a"}', "a"),
        ('  {"text": "\\ud83d\\ude00\\u0000"}  ', "😀\x00"),
        ('{"text": ""}', ""),
    ],
)
def test_odd_records_that_can_be_used(tmp_path: Path, line: str, text: str) -> None:
    """The last of two equal keys counts, as everywhere; what is odd elsewhere in the record does no harm."""
    path = tmp_path / "a.jsonl"
    path.write_text(line)
    assert read_inputs(path).rows == [(text,)]


def test_a_record_that_is_longer_than_units(tmp_path: Path) -> None:
    """It belongs to the unit in which it begins; the units that it covers are empty."""
    path = tmp_path / "a.jsonl"
    text = "long " * 3_000_000
    path.write_text("\n".join(json.dumps({"text": value}) for value in ("a", text, "b")))
    read = read_inputs(path, unit_bytes=1 << 20)
    assert read.rows == [("a",), (text,), ("b",)]
    assert read.lines == [0, 1, 2]


def test_a_record_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused where it begins, before it fills the memory; with skip, what follows is read."""
    monkeypatch.setattr(line_ranges, "LONGEST_RECORD", 1 << 20)
    monkeypatch.setattr(blocks, "LONGEST_RECORD", 1 << 20)
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in ("a", "b" * (3 << 20), "c")))
    with pytest.raises(InputError, match="a record is longer than") as caught:
        read_inputs(path, unit_bytes=1 << 16)
    assert caught.value.where == f"{path}:2"
    read = read_inputs(path, unit_bytes=1 << 16, on_error="skip")
    assert read.rows == [("a",), ("c",)]
    assert [(skipped.start, skipped.line) for skipped in read.skipped] == [(14, 1)]
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match="a record is longer than"):
        read_inputs(packed, unit_bytes=1 << 16)


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    """That is no error."""
    for name in ("a.jsonl", "a.json", "a.csv", "a.txt"):
        (tmp_path / name).touch()
        assert read_inputs(tmp_path / name).rows == []


@pytest.mark.parametrize(
    ("fields", "settings", "row"),
    [
        (("messages[0].content",), {}, ("hi",)),
        (("meta.body", "messages[-1].role"), {"mode": "pairs"}, ("b", "assistant")),
        (('["odd.key"]',), {}, ("odd",)),
        (("messages", "tools"), {"mode": "chat"}, ([{"content": "hi"}, {"role": "assistant"}], None)),
        (("as_json", "meta"), {"mode": "chat"}, ([{"role": "user"}], {"body": "b"})),
    ],
)
def test_fields_by_path(
    tmp_path: Path, fields: tuple[str, ...], settings: dict[str, Any], row: tuple[Any, ...]
) -> None:
    """Fields are found inside objects and lists; a chat's tools may be missing, its messages kept as JSON."""
    path = tmp_path / "a.jsonl"
    record = {
        "messages": [{"content": "hi"}, {"role": "assistant"}],
        "meta": {"body": "b"},
        "odd.key": "odd",
        "as_json": '[{"role": "user"}]',
    }
    path.write_text(json.dumps(record))
    assert read_inputs(path, fields=fields, **settings).rows == [row]
