"""JSON Lines, in byte ranges and in blocks."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from read_inputs import read_inputs

from asynckit.errors import InputError

_LINES = st.lists(
    st.one_of(
        st.text(max_size=40).map(lambda text: json.dumps({"text": text}, ensure_ascii=False)),
        st.just(""),
        st.just("  "),
        st.just('{"text": 3}'),
        st.just("{broken"),
    )
)


@given(
    lines=_LINES,
    end=st.sampled_from(["", "\n"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    unit=st.integers(1, 60),
)
def test_units_hold_what_the_whole_file_holds(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str, newline: str, unit: int
) -> None:
    """However a file is cut into ranges or blocks, the same records come out of it, at the same places."""
    path = tmp_path_factory.mktemp("inputs") / "a.jsonl"
    data = (newline.join(lines) + end).encode()
    path.write_bytes(data)
    whole = read_inputs(path, on_error="skip")
    ranges = read_inputs(path, on_error="skip", unit_bytes=unit)
    assert ranges[:5] == whole[:5]
    for row, start, stop in zip(whole.rows, whole.starts, whole.ends, strict=True):
        assert json.loads(data[start:stop])["text"] == row[0]
    packed = path.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(data))
    assert read_inputs(packed, on_error="skip", unit_bytes=unit)[:5] == whole[:5]


def test_a_broken_record_in_a_late_unit_is_named_by_its_line(tmp_path: Path) -> None:
    """The line counts from the file's start, and the error says what to do."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n' * 5000 + '{"text": "x"\n')
    with pytest.raises(InputError, match="not valid JSON") as caught:
        read_inputs(path, unit_bytes=1024)
    assert caught.value.where == f"{path}:5001"
    assert "--on-error skip" in caught.value.mend
