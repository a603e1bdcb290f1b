"""Text that others wrote, as it may be shown on a terminal.

Models, prompts and reward functions produce any characters at all: escape sequences that move the cursor,
retitle the window or answer for the person, and marks that reverse the order of what is read. All of them are
shown as what they are, none reaches the terminal. rich's markup is not interpreted where the text is put
into :class:`rich.text.Text`.
"""

import re

# C0 and C1 controls but for tab and line feed, marks of direction, line separators, and halves of surrogate
# pairs, which no encoding can carry.
_ACTIVE = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]"
)
_IN_TEXT = re.compile(_ACTIVE)
# JSON escapes C0 by itself.
_IN_JSON = re.compile(_ACTIVE.replace("\x00-\x08\x0b-\x1f", ""))


def readable(text: str, encoding: str = "utf-8") -> str:
    r"""``text`` with ``\x1b`` written out for an escape character, and likewise for others of its kind.

    Args:
        text: any text.
        encoding: of the terminal: what it lacks is written out too.
    """
    shown = _IN_TEXT.sub(lambda found: _written(found[0]), text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def in_one_line(text: str, longest: int) -> str:
    """The beginning of ``text`` as one readable line of at most ``longest`` characters."""
    line = " ".join(readable(text[: 4 * longest]).split())
    return line if len(line) <= longest and len(text) <= 4 * longest else line[: longest - 1] + "…"


def quiet_json(document: str) -> str:
    r"""A JSON document that means the same, with ``\u009b`` for what a terminal would obey."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def _written(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
