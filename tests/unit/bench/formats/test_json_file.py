"""A report comes back from its file as it was, and damaged ones are refused with the place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_reports import made_report, made_row, made_timing

from asynckit.bench.formats.json_file import from_json, load_report, to_json
from asynckit.errors import InputError, WorkFailed

Document = dict[str, Any]


def test_a_report_comes_back_as_it_was(tmp_path: Path) -> None:
    """With rows of both kinds, ceilings and predictions."""
    path = tmp_path / "report.json"
    path.write_text(to_json(made_report()), encoding="utf-8")
    assert load_report(path) == made_report()


def _schema(document: Document) -> None:
    document["schema"] = "asynckit.bench/9"


def _text(document: Document) -> None:
    document["rows"][0]["timing"]["median"] = "fast"


def _missing(document: Document) -> None:
    del document["rows"][1]["case"]


def _unknown(document: Document) -> None:
    document["rows"][1]["speed"] = 3


def _neither(document: Document) -> None:
    document["rows"][0]["timing"] = None


def _negative(document: Document) -> None:
    document["rows"][0]["flops"] = -1.0


def _outside(document: Document) -> None:
    document["rows"][2]["timing"]["low"] = document["rows"][2]["timing"]["high"] = 1e9


def _unordered(document: Document) -> None:
    document["rows"][2]["timing"]["p5"] = 1e9


def _twice(document: Document) -> None:
    document["rows"].append(document["rows"][0])


def _flat_roof(document: Document) -> None:
    document["ceilings"]["bytes_per_second"] = 0.0


def _no_repetitions(document: Document) -> None:
    document["rows"][0]["timing"]["repetitions"] = 0


def _negative_sample(document: Document) -> None:
    document["rows"][0]["timing"]["samples"][3] = -1e-6


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_schema, r"schema 'asynckit\.bench/9' where 'asynckit\.bench/1' is read \(measure again"),
        (_text, r"Expected `float`, got `str` - at `\$\.rows\[0\]\.timing\.median`"),
        (_missing, r"missing required field `case` - at `\$\.rows\[1\]`"),
        (_unknown, "unknown field `speed`"),
        (_neither, "neither a timing nor a reason"),
        (_negative, "a count below 0"),
        (_outside, r"outside of its interval - at `\$\.rows\[2\]`"),
        (_unordered, "do not rise"),
        (_twice, "is there 2 times"),
        (_flat_roof, "ceilings"),
        (_no_repetitions, "no repetitions"),
        (_negative_sample, "a time below 0"),
    ],
)
def test_a_damaged_report_is_refused_with_the_place(damage: Callable[[Document], None], words: str) -> None:
    """What is read is compared with, and gates releases."""
    document = json.loads(to_json(made_report()))
    damage(document)
    with pytest.raises(InputError, match=words) as caught:
        from_json(json.dumps(document).encode(), "saved.json")
    assert caught.value.where == "saved.json"
    assert caught.value.mend


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b"{}", b"[" * 100_000])
def test_other_files_are_no_reports(text: bytes) -> None:
    """Whatever they are."""
    with pytest.raises(InputError):
        from_json(text, "other")


def test_a_cut_report_is_refused() -> None:
    """At any byte."""
    text = to_json(made_report()).rstrip().encode()
    for length in range(0, len(text), 997):
        with pytest.raises(InputError):
            from_json(text[:length])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, or a folder."""
    for path in (tmp_path, tmp_path / "missing.json"):
        with pytest.raises(InputError, match="cannot be read") as caught:
            load_report(path)
        assert caught.value.where == str(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_json_cannot_say_is_not_written(bad: float) -> None:
    """It would be read as missing."""
    report = made_report(rows=(made_row(timing=made_timing(drift=bad)),))
    with pytest.raises(WorkFailed, match=r"rows\[0\]\.timing\.drift"):
        to_json(report)
