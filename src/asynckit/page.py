"""A page of HTML in one file that needs nothing else, with plots from :mod:`asynckit.charts`.

What somebody else wrote is text on it and nothing else: it is escaped, control characters are made visible,
and the page's own policy forbids scripts and every connection.
"""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
# What would act instead of being read: control characters become the pictures that Unicode has of them (line
# break and tab may stay), and those that turn the writing direction their escapes.
_VISIBLE: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(32) if code not in (9, 10)},
    127: 0x2421,
    **{code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}


def page(title: str, body: Iterable[str]) -> str:
    """The whole document; ``title`` is plain text, ``body`` markup."""
    style = files("asynckit").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{visible(title)}</title><style>\n{style}</style></head>\n<body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def table(header: Sequence[str], rows: Sequence[tuple[str, ...]]) -> str:
    """A table of plain text whose first column names the rows; ``header`` is empty or names the columns."""
    if not rows:
        return "<p>None.</p>"
    top = "".join(f'<th scope="col">{visible(name)}</th>' for name in header)
    lines = "".join(map(_row, rows))
    return f"<table>{f'<thead><tr>{top}</tr></thead>' if top else ''}<tbody>{lines}</tbody></table>"


def visible(text: str) -> str:
    """Text that can be nothing but text on the page."""
    return escape(text.translate(_VISIBLE))


def _row(cells: tuple[str, ...]) -> str:
    name, *values = map(visible, cells)
    return f'<tr><th scope="row">{name}</th>{"".join(f"<td>{value}</td>" for value in values)}</tr>'
