"""A page is harmless and well-formed, whatever it shows."""

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from asynckit.page import page, table, visible

HOSTILE = "</td><script>alert(1)</script>\x00\x1b\u202e&\"'"


in_xml = st.text(st.characters(codec="utf-8", exclude_characters="\ufffe\uffff"))  # the parser's limits


@given(rows=st.lists(st.tuples(in_xml, in_xml, in_xml), min_size=1, max_size=5))
def test_a_table_has_every_cell_as_text(rows: list[tuple[str, str, str]]) -> None:
    """Nothing that stands in a cell becomes markup."""
    root = ET.fromstring(table((HOSTILE, "b", "c"), [*rows, (HOSTILE,) * 3]))  # noqa: S314 - our own output
    assert {node.tag for node in root.iter()} == {"table", "thead", "tbody", "tr", "th", "td"}
    assert len(list(root.iter("td"))) == 2 * (len(rows) + 1)


def test_a_page_needs_nothing_else() -> None:
    """No script, no connection, and the title is text."""
    shown = page(HOSTILE, [f"<p>{visible(HOSTILE)}</p>"])
    assert "<script" not in shown
    assert "default-src 'none'" in shown
    assert not {"\x00", "\x1b", "\u202e"} & set(shown)
