"""Text of models on a terminal: nothing in it is obeyed, and nothing is lost."""

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from asynckit.readable import in_one_line, quiet_json, readable

ANY = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)


@given(ANY)
def test_no_control_character_remains(text: str) -> None:
    """Neither escape sequences nor marks that turn the direction of reading around get through."""
    shown = readable(text)
    assert all(unicodedata.category(each) not in ("Cc", "Cs") or each in "\t\n" for each in shown)
    assert not set("\u202e\u2066\u2069\u200f\u2028") & set(shown)
    shown.encode()


def test_what_is_harmless_stays_as_it_is() -> None:
    """Line breaks, tabs, accents, emoji and what looks like markup are shown as they are."""
    text = "[red]a[/red]\tb\n\u00e9 \U0001f600 :smile:"
    assert readable(text) == text
    assert readable("\x1b[2Jx\r\x9b1m\x7f") == r"\x1b[2Jx\x0d\x9b1m\x7f"
    assert readable("caf\u00e9", "ascii") == r"caf\xe9"


@given(ANY)
def test_json_means_the_same(text: str) -> None:
    """Escaping changes how a document is written, not what it says."""
    document = quiet_json(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(document) == {"text": text}
    assert not any(unicodedata.category(each) in ("Cc", "Cs") for each in document)


@given(ANY, st.integers(4, 20))
def test_one_line_is_one_line(text: str, longest: int) -> None:
    """A table's row stays one row."""
    line = in_one_line(text, longest)
    assert len(line) <= longest
    assert "\n" not in line
