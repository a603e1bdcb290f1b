"""What a file is, by its name."""

from typing import NamedTuple

COMPRESSIONS = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2", ".xz": "xz"}
TEXT_ENDINGS = (".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".org", ".adoc")
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".csv": "csv",
    ".tsv": "csv",
    **dict.fromkeys(TEXT_ENDINGS, "text"),
}
ROW_FORMATS = frozenset({"parquet", "arrow"})
STANDARD_INPUT = "-"
STANDARD_INPUT_SHOWN = "standard input"
"""What a person, and a manifest, call it."""


class Kind(NamedTuple):
    """What a name says.

    Attributes:
        format: one of the input formats, or empty.
        compression: as in ``Source``.
    """

    format: str
    compression: str


def kind_by_name(name: str) -> Kind:
    """What the file's name says about it."""
    stem, ending = _split(name)
    compression = COMPRESSIONS.get(ending, "")
    if compression:
        ending = _split(stem)[1]
    return Kind(FORMATS.get(ending, ""), compression)


def is_url(name: str) -> bool:
    """Whether ``name`` is an address for fsspec rather than a path."""
    return "://" in name


def delimiter_of(name: str) -> str:
    """What stands between the fields of a CSV file of that name."""
    stem, ending = _split(name)
    if ending in COMPRESSIONS:
        ending = _split(stem)[1]
    return "\t" if ending == ".tsv" else ","


def _split(name: str) -> tuple[str, str]:
    if is_url(name):
        name = name.partition("?")[0].partition("#")[0]
    last = name.rpartition("/")[2]
    stem, dot, ending = last.rpartition(".")
    return (stem, f".{ending.lower()}") if dot and stem else (last, "")
