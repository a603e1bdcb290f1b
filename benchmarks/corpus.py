"""A corpus of real text as JSONL: sources and pages of the Python installation and of /usr/share."""

import json
import os
import random
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SUFFIXES = frozenset(
    (".py", ".pyi", ".md", ".rst", ".txt", ".json", ".c", ".cpp", ".h", ".hpp", ".js", ".html", ".po")
)
_LONGEST = 200_000  # characters of a document


@dataclass(frozen=True)
class Corpus:
    """What was written.

    Attributes:
        laps: how often the files were gone through; only the first lap is text that was not there before.
    """

    bytes: int
    documents: int
    laps: int


def write_corpus(path: Path, megabytes: float) -> Corpus:
    """Write documents of real files in a random but fixed order until so many megabytes are there.

    Every second document has its other characters escaped, as most tools write them.
    """
    written = documents = 0
    with path.open("wb") as file:
        for lap, text in _texts():
            line = json.dumps({"text": text}, ensure_ascii=documents % 2 == 1).encode() + b"\n"
            file.write(line)
            written += len(line)
            documents += 1
            if written >= megabytes * 1e6:
                return Corpus(written, documents, lap)
    raise AssertionError("texts come without end")


def write_long_document(path: Path, megabytes: float) -> Corpus:
    """Write a corpus of ten short documents with one of so many megabytes of text among them."""
    parts, size = [], 0
    for _, text in _texts():
        parts.append(text)
        size += len(text.encode())
        if size >= megabytes * 1e6:
            break
    texts = [*parts[:5], "\n".join(parts), *parts[5:10]]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return Corpus(path.stat().st_size, len(texts), 1)


def write_head(source: Path, path: Path, megabytes: float) -> Corpus:
    """Copy whole lines until so many megabytes are there; at least one line."""
    written = documents = 0
    with source.open("rb") as lines, path.open("wb") as file:
        for line in lines:
            file.write(line)
            written += len(line)
            documents += 1
            if written >= megabytes * 1e6:
                break
    return Corpus(written, documents, 1)


def split(source: Path, folder: Path, pieces: int) -> None:
    """Cut a file at ends of lines into files of about the same size, named in their order."""
    folder.mkdir(parents=True)
    size = source.stat().st_size
    with source.open("rb") as lines:
        for index in range(pieces):
            with (folder / f"{index:03d}.jsonl").open("wb") as piece:
                while lines.tell() * pieces < size * (index + 1) and (line := lines.readline()):
                    piece.write(line)


def _texts() -> Iterator[tuple[int, str]]:
    """Numbers of laps and texts, without end."""
    files = _files()
    random.Random(0).shuffle(files)
    lap = 0
    while True:
        lap += 1
        for file in files:
            text = _read(file)
            if text:
                yield lap, text if lap == 1 else f"{lap}\n{text}"


def _files() -> list[Path]:
    """The files of the installation, in a fixed order."""
    places = sysconfig.get_paths()
    roots = {Path(places["stdlib"]), Path(places["purelib"]), Path("/usr/share")}
    found = {
        Path(folder) / name
        for root in roots
        for folder, _, names in os.walk(root)
        for name in names
        if Path(name).suffix in _SUFFIXES
    }
    return sorted(found)


def _read(file: Path) -> str:
    """The beginning of a file; empty if it is no text, or gone."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return lines.read(_LONGEST)
    except (UnicodeDecodeError, OSError):
        return ""
