"""A summary as a person reads it: tables and bars in a terminal, or a page of HTML."""

from typing import TYPE_CHECKING

from asynckit.charts import bins, levels
from asynckit.console import mark
from asynckit.page import page, table, visible
from asynckit.readable import readable
from asynckit.tokenization.afterwards.summary import SourceCounts, Summary, TopToken

if TYPE_CHECKING:
    from rich.console import RenderableType

_SOURCES = 30  # shown to a person, those with the most tokens; --json has all
_BAR = 40  # characters
_LONGEST_NAME = 80
_LABEL = 14  # characters of a name beside a bar
_SOURCE_COLUMNS = ("input", "documents", "tokens", "text", "tokens per byte", "skipped")
_TOP_COLUMNS = ("token", "id", "count", "share")


def render(summary: Summary) -> list["RenderableType"]:
    """The facts, the lengths, the inputs and the top tokens for a terminal."""
    from rich.table import Table
    from rich.text import Text

    facts = Table(show_header=False, title=_title(summary), title_justify="left")
    facts.add_column()
    facts.add_column(overflow="fold")
    for name, value in _facts(summary):
        facts.add_row(name, Text(readable(value)))
    return [
        facts,
        _bars(summary),
        _as_table("inputs", _SOURCE_COLUMNS, [_source_row(each) for each in _largest(summary)]),
        _as_table("most frequent tokens", _TOP_COLUMNS, [_top_row(each) for each in summary.top]),
    ]


def to_html(summary: Summary) -> str:
    """The same as one page that needs nothing else."""
    lengths = [(f"{each.low:,}", each.label, each.documents) for each in summary.lengths.bins]
    return page(
        str(summary.folder),
        [
            f"<h1>{visible(_title(summary))}</h1>",
            table((), _facts(summary)),
            "<h2>Length of documents</h2>",
            bins("Documents by their length", "tokens", lengths),
            "<h2>Inputs</h2>",
            levels("Tokens per byte of text", "tokens per byte", _rates(summary)),
            table(_SOURCE_COLUMNS, [_source_row(each) for each in _largest(summary)]),
            "<h2>Most frequent tokens</h2>",
            table(_TOP_COLUMNS, [_top_row(each) for each in summary.top]),
        ],
    )


def _title(summary: Summary) -> str:
    return f"tokens of {readable(str(summary.folder))}"


def _facts(summary: Summary) -> list[tuple[str, str]]:
    return [
        ("tokens", f"{summary.tokens:,} by {summary.tokenizer}"),
        ("shards", f"{summary.shards:,}"),
        ("documents", f"{summary.documents:,}{_lengths(summary)}"),
        ("text", f"{_bytes(summary.text_bytes)}{_rate(summary)}"),
        ("vocabulary", f"{summary.distinct:,} of {summary.vocabulary:,} ids occur"),
        ("special tokens", f"{summary.special:.3%}"),
        ("unknown", _share(summary.unknown, "the tokenizer has no token for it")),
        ("byte fallback", f"{summary.bytes:.3%} are bytes or parts of characters"),
        ("learned", _share(summary.learned, "all: there is no loss mask")),
        ("truncated", _truncated(summary)),
        ("skipped", f"{summary.skipped:,} records"),
        *_packing(summary),
    ]


def _lengths(summary: Summary) -> str:
    lengths = summary.lengths
    if not lengths.documents:
        return ""
    shares = ", ".join(f"p{percent} {length:,}" for percent, length in lengths.percentiles.items())
    return f" of {lengths.shortest:,} to {lengths.longest:,} tokens, {lengths.mean:,.1f} on average; {shares}"


def _rate(summary: Summary) -> str:
    rate = summary.tokens_per_byte
    return "" if not rate else f", {rate:.4f} tokens per byte, {1 / rate:.3f} bytes per token"


def _truncated(summary: Summary) -> str:
    if not summary.truncated_documents:
        return "none"
    return f"{summary.truncated_documents:,} documents, {summary.truncated_tokens:,} tokens cut off"


def _packing(summary: Summary) -> list[tuple[str, str]]:
    packing = summary.packing
    if packing is None:
        return []
    filled = f"{packing.efficiency:.2%} of {packing.sequences:,} sequences of {packing.length:,} tokens"
    cut = f"{packing.cut_documents:,} documents lie in several sequences"
    return [("packing", f"{filled} is documents; {cut}")]


def _largest(summary: Summary) -> list[SourceCounts]:
    return sorted(summary.sources, key=lambda each: -each.tokens)[:_SOURCES]


def _rates(summary: Summary) -> list[tuple[str, float]]:
    return [
        (_by_its_end(each.name, _LABEL), each.tokens_per_byte)
        for each in _largest(summary)
        if each.tokens_per_byte is not None
    ]


def _by_its_end(name: str, most: int) -> str:
    """The name in one line; of a long one the end, which tells it from others."""
    line = " ".join(readable(name).split())
    return line if len(line) <= most else f"…{line[1 - most :]}"


def _source_row(source: SourceCounts) -> tuple[str, ...]:
    rate = "" if source.tokens_per_byte is None else f"{source.tokens_per_byte:.4f}"
    return (
        _by_its_end(source.name, _LONGEST_NAME),
        f"{source.documents:,}",
        f"{source.tokens:,}",
        _bytes(source.text_bytes),
        rate,
        f"{source.skipped:,}",
    )


def _top_row(token: TopToken) -> tuple[str, ...]:
    return token.token, str(token.id), f"{token.count:,}", f"{token.share:.3%}"


def _share(share: float | None, otherwise: str) -> str:
    return otherwise if share is None else f"{share:.3%}"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _bars(summary: Summary) -> "RenderableType":
    """The histogram of lengths."""
    from rich.table import Table
    from rich.text import Text

    block = mark("█", "#")
    most = max((each.documents for each in summary.lengths.bins), default=0)
    chart = Table("tokens", "documents", "", title="length of documents", title_justify="left", box=None)
    chart.columns[1].justify = "right"
    for each in summary.lengths.bins:
        bar = block * -(-_BAR * each.documents // most)
        chart.add_row(each.label, f"{each.documents:,}", Text(bar, "cyan"))
    return chart


def _as_table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    shown = Table(*columns, title=title, title_justify="left")
    shown.columns[0].overflow = "fold"
    for column in shown.columns[1:]:
        column.justify = "right"
    for row in rows:
        shown.add_row(*(Text(readable(cell)) for cell in row))
    return shown
