"""``asynckit tokens inspect``: the text around a token, and where it comes from."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asynckit.readable import readable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

SCHEMA = "asynckit.tokens-inspection/1"


@dataclass(frozen=True)
class Place:
    """Where a token comes from.

    Attributes:
        document: its number in the whole output.
        offset: of the token in the document.
        source: name of the input.
        start: of the document in it.
        end: after it.
        counted_in: ``bytes`` of the decompressed input, or ``rows``.
        shard: name of the file with the token.
    """

    document: int
    offset: int
    source: str
    start: int
    end: int
    counted_in: str
    shard: str


@dataclass(frozen=True)
class ShownToken:
    """A token of the window.

    Attributes:
        position: in the whole output.
        id: of the token.
        token: as :meth:`~.vocabulary.Vocabulary.written` has it.
        special: whether it is a special token.
        document: that it belongs to; None for padding.
        learned: what the loss mask says; None where there is none.
    """

    position: int
    id: int
    token: str
    special: bool
    document: int | None
    learned: bool | None


@dataclass(frozen=True)
class Inspection:
    """A window on the tokens.

    Attributes:
        folder: of the shards.
        total: tokens of the whole output.
        position: of the token that is looked at.
        place: where it comes from; None for padding.
        before: text of the window up to the token; bytes that are no text are escaped.
        at: text of the token.
        after: text after it.
        tokens: of the window.
    """

    folder: Path
    total: int
    position: int
    place: Place | None
    before: str
    at: str
    after: str
    tokens: list[ShownToken]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the schema's name."""
        return {"schema": SCHEMA, **asdict(self), "folder": str(self.folder)}


def render(inspection: Inspection) -> list["RenderableType"]:
    """The place, the text and the tokens for a terminal."""
    from rich.table import Table
    from rich.text import Text

    title = f"token {inspection.position:,} of {inspection.total:,} in {inspection.folder}"
    facts = Table(show_header=False, title=Text(readable(title)), title_justify="left")
    for name, value in _facts(inspection):
        facts.add_row(name, Text(readable(value)))
    window = Table("position", "id", "token", "document", "", title="tokens", title_justify="left")
    for token in inspection.tokens:
        style = "bold reverse" if token.position == inspection.position else ""
        window.add_row(*map(Text, _cells(token, inspection.position)), style=style)
    return [facts, Text("text", "italic"), _text(inspection), window]


def _facts(inspection: Inspection) -> list[tuple[str, str]]:
    place = inspection.place
    if place is None:
        return [("document", "none: this is padding")]
    return [
        ("document", f"{place.document:,}, token {place.offset:,} of it"),
        ("source", place.source),
        (place.counted_in, f"{place.start:,} to {place.end:,}, the last not included"),
        ("shard", place.shard),
    ]


def _text(inspection: Inspection) -> "Text":
    """The window's text with its token marked, also where there are no colours."""
    from rich.text import Text

    return Text.assemble(
        readable(inspection.before),
        ("⟦", "bold red"),
        (readable(inspection.at), "bold reverse"),
        ("⟧", "bold red"),
        readable(inspection.after),
    )


def _cells(token: ShownToken, position: int) -> tuple[str, ...]:
    notes = []
    if token.position == position:
        notes.append("← here")
    if token.special:
        notes.append("special")
    if token.learned is not None:
        notes.append("learned" if token.learned else "not learned")
    document = "padding" if token.document is None else f"{token.document:,}"
    return f"{token.position:,}", str(token.id), readable(token.token), document, ", ".join(notes)
