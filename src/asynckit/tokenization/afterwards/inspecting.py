"""``asynckit tokens inspect``: the text around a token, and where it comes from."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asynckit.console import mark
from asynckit.errors import InputError
from asynckit.readable import readable
from asynckit.tokenization.afterwards.vocabulary import Vocabulary
from asynckit.tokenization.outputs.dataset import Place as Located
from asynckit.tokenization.outputs.dataset import TokenDataset

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

SCHEMA = "asynckit.tokens-inspection/1"
_ROWS = ("parquet", "arrow")  # formats of inputs whose documents are rows


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
        at: the characters that the token is or belongs to.
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


def around(dataset: TokenDataset, vocabulary: Vocabulary, position: int, most: int) -> Inspection:
    """A token with its neighbours.

    Args:
        dataset: the folder.
        vocabulary: that made it.
        position: of the token in the whole output.
        most: how many tokens to show.

    Raises:
        InputError: there is no such token, or a file is damaged.
    """
    if not 0 <= position < dataset.token_count:
        mend = f"the tokens are 0 to {dataset.token_count - 1:,}" if dataset.token_count else "there are none"
        raise InputError(f"no token {position:,}", where=str(dataset.folder), mend=mend)
    begin = max(0, min(position - most // 2, dataset.token_count - most))
    return _window(dataset, vocabulary, position, begin, min(begin + most, dataset.token_count))


def beginning(dataset: TokenDataset, vocabulary: Vocabulary, document: int, most: int) -> Inspection:
    """The first tokens of a document, of which the very first is looked at.

    Raises:
        InputError: there is no such document, it has no tokens, or a file is damaged.
    """
    stretches = [each for each in dataset.stretches(document) if each.tokens]
    if not stretches:
        mend = "an empty text without special tokens has none"
        raise InputError(f"document {document:,} has no tokens", where=str(dataset.folder), mend=mend)
    first = stretches[0].first
    return _window(dataset, vocabulary, first, first, first + min(most, stretches[0].tokens))


def _window(dataset: TokenDataset, vocabulary: Vocabulary, position: int, begin: int, end: int) -> Inspection:
    ids = dataset.tokens(begin, end).tolist()
    mask = dataset.loss_mask(begin, end)
    documents = _documents(dataset, begin, end)
    tokens = [
        ShownToken(
            begin + number,
            id_,
            vocabulary.written(id_),
            id_ in vocabulary.special,
            documents[number],
            None if mask is None else bool(mask[number]),
        )
        for number, id_ in enumerate(ids)
    ]
    before, at, after = vocabulary.marked(ids, position - begin)
    return Inspection(
        folder=dataset.folder,
        total=dataset.token_count,
        position=position,
        place=_place(dataset, dataset.locate(position)),
        before=before,
        at=at,
        after=after,
        tokens=tokens,
    )


def _documents(dataset: TokenDataset, begin: int, end: int) -> list[int | None]:
    """The document of each token of a window; None for padding."""
    found: list[int | None] = []
    while begin + len(found) < end:
        place = dataset.locate(begin + len(found))
        if place is None:
            found.append(None)
        else:
            left = place.stretch.first + place.stretch.tokens - place.token
            found += [place.stretch.document] * min(left, end - begin - len(found))
    return found


def _place(dataset: TokenDataset, located: Located | None) -> Place | None:
    if located is None:
        return None
    stretch, manifest = located.stretch, dataset.manifest
    formats = {each.name: each.format for each in manifest.inputs}
    return Place(
        document=stretch.document,
        offset=located.offset,
        source=stretch.source,
        start=stretch.start,
        end=stretch.end,
        counted_in="rows" if formats.get(stretch.source) in _ROWS else "bytes",
        shard=next(each.files[0].name for each in manifest.shards if each.number == stretch.shard),
    )


def render(inspection: Inspection) -> list["RenderableType"]:
    """The place, the text and the tokens for a terminal."""
    from rich.table import Table
    from rich.text import Text

    title = f"token {inspection.position:,} of {inspection.total:,} in {inspection.folder}"
    facts = Table(show_header=False, title=Text(readable(title)), title_justify="left")
    facts.add_column()
    facts.add_column(overflow="fold")  # a path that is cut off leads nowhere
    for name, value in _facts(inspection):
        facts.add_row(name, Text(readable(value)))
    window = Table("position", "id", "token", "document", "notes", title="tokens", title_justify="left")
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
        (mark("⟦", "[["), "bold red"),
        (readable(inspection.at), "bold reverse"),
        (mark("⟧", "]]"), "bold red"),
        readable(inspection.after),
    )


def _cells(token: ShownToken, position: int) -> tuple[str, ...]:
    notes = []
    if token.position == position:
        notes.append(mark("← here", "<- here"))
    if token.special:
        notes.append("special")
    if token.learned is not None:
        notes.append("learned" if token.learned else "not learned")
    document = "padding" if token.document is None else f"{token.document:,}"
    return f"{token.position:,}", str(token.id), readable(token.token), document, ", ".join(notes)
