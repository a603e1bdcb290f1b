"""Texts on which encoders tend to differ: the trial that one has to pass."""

import random
from collections.abc import Iterator, Sequence

_SEED = 0
_RUNS = " \t\n\r.-=_/#a0é世\u00a0\u3000\u200b"
_RUN_LENGTHS = (*range(1, 20), 31, 32, 33, 63, 64, 65, 130, 257)
_BLOCKS = (
    *((0x20, 0x250), (0x370, 0x600), (0x900, 0x1000), (0x2000, 0x2C00)),
    *((0x4E00, 0x9FFF), (0x1F300, 0x1FB00)),
)
_WORDS = (
    "I'm you're WE'LL don't 'tis can\u2019t it'S",
    "a\n's b\t't c\u00a0've d\r\n'm .\n'll !'re 's",
    *(
        f".{chr(code)}.\u00e9{chr(code)}a {chr(code)} {chr(code)}"
        for code in (*range(0x20), *range(0x7F, 0xA0))
    ),
    "x=1; y+=22 333 4444 1234567890 0x1F 3.14e-10 1,000,000",
    "foo_bar fooBar FOO-bar foo.bar() {[<>]} !== -> => :: ;;",
    "  two  spaces \t tab\n\nlines \r\n windows\r\n\r\n end ",
    "caf\u00e9 cafe\u0301 \u212b \u00c5 A\u030a \ufb01 \u1e9b\u0323 \u0344",
    "\u4f60\u597d\u4e16\u754c \u3053\u3093\u306b\u3061\u306f \uc548\ub155 \u1112\u1161\u11ab",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u0928\u092e\u0938\u094d\u0924\u0947",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u1019\u1004\u103a \u1795\u17d2\u178f",
    "\u0661\u0662\u0663 \u0967\u0968\u0969 \u2167 \u00bd \u00b2 \u2460 \u5341 \U0001d7d8",
    "\U0001f600\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "\U0001f44d\U0001f3fd #\ufe0f\u20e3 \u00a9\ufe0f",
    "\x00 \x01\x04\x1f\x7f \x85 \x0b\x0c \ufeff \ufffd \u2028 \u202e \ue000 \U000f0000 \U0010ffff \ufffe",
    "\U00010330 \U00012000 \u16a0 \u13a0 \u1820 \ua000 \u2c00 \u0710 \u07ca",
    "<| |> <|im_start <|IM_END|> < |endoftext|> [INST] [/INST] <s></s> <unk> <0x41> \u2581 \u0120 </w> ##ing",
)


def trial_texts(special: Sequence[str]) -> list[str]:
    """Nasty texts for a tokenizer with these added tokens; always the same, and 0.1 s for the reference."""
    runs = [f"b{character * length}c {character * length}" for character in _RUNS for length in _RUN_LENGTHS]
    return ["", *_WORDS, *runs, *_around(special[:20]), *_random_texts()]


def _around(special: Sequence[str]) -> list[str]:
    """Added tokens between all kinds of neighbours, whole and damaged."""
    texts = []
    for token in special:
        texts += [f"a{token}b", f" {token} ", f"\n{token}\n{token}{token}", f"1{token}2", token.upper()]
        texts += [token[:-1], f"{token[:1]} {token[1:]}"]
    return texts


def _random_texts() -> list[str]:
    draw = random.Random(_SEED)  # noqa: S311 - not for secrets
    common = [*"etaoin shrdlu.,;:'\"!?()[]{}<>|/\\#@0123456789\n\t", "  ", "\u00e9", "\u4e16"]
    texts = ["".join(draw.choices(common, k=60)) for _ in range(60)]
    for first, end in _BLOCKS:
        texts += ["".join(_letters(draw, first, end)) for _ in range(8)]
    return texts


def _letters(draw: random.Random, first: int, end: int) -> Iterator[str]:
    for _ in range(30):
        yield chr(draw.randrange(first, end)) + draw.choice(("", "", " "))
