"""Documents of every kind that is at hand on a machine, the same ones each time.

Code and prose come from the Python installation and /usr/share; sentences in about a hundred languages from
the translations (.mo files) that programs bring; the rest is made from the Unicode database: words of letters
of one script, emoji sequences, control and invisible characters, long runs, look-alikes of special tokens.
"""

import random
import struct
import sys
import unicodedata
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

CODE = {
    ".py",
    ".pyi",
    ".c",
    ".h",
    ".cpp",
    ".js",
    ".ts",
    ".css",
    ".sh",
    ".pl",
    ".lua",
    ".json",
    ".xml",
    ".yaml",
}
PROSE = {".md", ".rst", ".txt", ".html", ".htm", ".tex", ".info", ".vim"}
SHARES = {
    "code": 0.34,
    "prose": 0.12,
    "translations": 0.34,
    "scripts": 0.08,
    "emoji": 0.04,
    "control": 0.03,
    "runs": 0.03,
    "look-alikes": 0.02,
}
_MOST_CHARACTERS = 200_000
_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "[INST]", "[/INST]", "<pad>"),
    *("<|endoftext", "|im_end|>", "<|im_START|>", "< s >", "<filename>", "<gh_stars>", "<|extra_7|>"),
    *("<SPECIAL_20>", "[TOOL_CALLS]", "<0x0A>", "▁", "Ġ", "</w>", "##ing", "<|", "|>"),
)
_INVISIBLE = [*range(0x20), 0x7F, *range(0x80, 0xA1), 0xAD, *range(0x200B, 0x2010), *range(0x2028, 0x202F)]
_INVISIBLE += [
    *range(0x2060, 0x2070),
    0xFEFF,
    0xFFF9,
    0xFFFD,
    0xFFFE,
    0xE000,
    0xF8FF,
    0xE0001,
    0xE0041,
    0x10FFFF,
]


def documents(megabytes: float, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Kind and text of documents, kinds taking turns, until every kind has its share of so many megabytes."""
    left = {kind: share * megabytes * 1e6 for kind, share in SHARES.items()}
    sources = _sources(seed)
    while left:
        for kind in list(left):
            text = next(sources[kind], None)
            if text is None:
                del left[kind]  # this machine has no more of it
                continue
            yield kind, text
            left[kind] -= len(text.encode())
            if left[kind] <= 0:
                del left[kind]


def _sources(seed: int) -> dict[str, Iterator[str]]:
    draws = {kind: random.Random(f"{seed} {kind}") for kind in SHARES}
    roots = [Path(sys.prefix) / "lib", Path(sys.base_prefix) / "lib", Path("/usr/share")]
    files = sorted(
        {file for root in roots for file in root.rglob("*") if file.suffix in CODE | PROSE | {".mo"}}
    )
    return {
        "code": _texts([file for file in files if file.suffix in CODE], draws["code"]),
        "prose": _texts([file for file in files if file.suffix in PROSE], draws["prose"]),
        "translations": _translations(
            [file for file in files if file.suffix == ".mo"], draws["translations"]
        ),
        "scripts": _scripts(draws["scripts"]),
        "emoji": _emoji(draws["emoji"]),
        "control": _control(draws["control"]),
        "runs": _runs(draws["runs"]),
        "look-alikes": _look_alikes(draws["look-alikes"]),
    }


def _texts(files: list[Path], draw: random.Random) -> Iterator[str]:
    draw.shuffle(files)
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")[:_MOST_CHARACTERS]
        except (OSError, UnicodeDecodeError):
            continue  # a broken link, or another encoding: not a text for us
        if text:
            yield text


def _translations(files: list[Path], draw: random.Random) -> Iterator[str]:
    """Sentences of one language at a time, languages taking turns, shuffled into documents."""
    by_language: dict[str, list[Path]] = {}
    for file in files:
        by_language.setdefault(file.parts[-3], []).append(file)
    sentences = {language: _sentences(several) for language, several in sorted(by_language.items())}
    languages = [language for language, several in sentences.items() if several]
    for language in cycle(languages) if languages else ():
        count = draw.choice((1, 3, 20, 120))
        joint = draw.choice((" ", "\n", "\n\n"))
        yield joint.join(draw.choices(sentences[language], k=count))


def _sentences(files: list[Path]) -> list[str]:
    return [text for file in files for text in _messages(file.read_bytes())]


def _messages(data: bytes) -> Iterator[str]:
    """The translations in a .mo file; its header, which is the translation of nothing, is left out."""
    if data[:4] != b"\xde\x12\x04\x95":
        return
    count, _, table = struct.unpack_from("<3I", data, 8)
    for index in range(1, count):
        length, start = struct.unpack_from("<2I", data, table + 8 * index)
        text = data[start : start + length].decode("utf-8", "ignore").replace("\0", "\n")
        if text:
            yield text


def _scripts(draw: random.Random) -> Iterator[str]:
    """Words of letters, marks and numbers of one script, of every script of the Unicode database."""
    by_script: dict[str, list[str]] = {}
    for code in range(0xA0, 0x32000):
        character = chr(code)
        if unicodedata.category(character)[0] in "LMN":
            by_script.setdefault(unicodedata.name(character, "?").split()[0], []).append(character)
    scripts = [letters for _, letters in sorted(by_script.items())]
    for letters in cycle(scripts):
        words = ("".join(draw.choices(letters, k=draw.randint(1, 12))) for _ in range(draw.choice((5, 60))))
        yield draw.choice((" ", " ", "\n", ", ", "")).join(words)


def _emoji(draw: random.Random) -> Iterator[str]:
    """Emoji with skin tones, joiners, variation selectors and flags, between words."""
    symbols = [chr(code) for code in range(0x2190, 0x1FAFF) if unicodedata.category(chr(code)) == "So"]
    glue = [
        "\u200d",
        "\ufe0f",
        "\ufe0e",
        "\u20e3",
        *(chr(code) for code in range(0x1F3FB, 0x1F400)),
        "",
        "",
        "",
    ]
    flags = [chr(code) for code in range(0x1F1E6, 0x1F200)]
    while True:
        parts = [draw.choice(symbols) + draw.choice(glue) for _ in range(draw.choice((3, 40)))]
        parts += ["".join(draw.choices(flags, k=2)), draw.choice(("ok", "Hello", "1", "#"))]
        draw.shuffle(parts)
        yield draw.choice(("", " ")).join(parts)


def _control(draw: random.Random) -> Iterator[str]:
    """Words with control characters, invisible and private ones in and between them."""
    while True:
        yield "".join(
            draw.choice(("the", " word", "Ünïcode", " 世界", "12", " ", "\r\n", "."))
            + chr(draw.choice(_INVISIBLE))
            for _ in range(draw.choice((2, 30, 200)))
        )


def _runs(draw: random.Random) -> Iterator[str]:
    """Long runs of a character, or of two."""
    characters = [
        *" \t\n\r.-=_*#/\\a0AzЯ世あé\u00a0\u3000\u200b",
        "  ",
        "\r\n",
        "ab",
        "a ",
        " a",
        "1a",
        "😀",
        "'s",
    ]
    while True:
        runs = (
            draw.choice(characters) * draw.choice((2, 7, 33, 120, 500)) for _ in range(draw.randint(1, 9))
        )
        yield draw.choice(("", "x", " ")).join(runs)


def _look_alikes(draw: random.Random) -> Iterator[str]:
    """Special tokens of several models, whole and damaged, between words and spaces."""
    around = ("", " ", "  ", "\n", "a", "Word ", "1", "é", "世", ".")
    while True:
        yield "".join(
            draw.choice(around) + draw.choice(_SPECIAL) + draw.choice(around)
            for _ in range(draw.choice((1, 12)))
        )
