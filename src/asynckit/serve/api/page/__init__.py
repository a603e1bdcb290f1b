"""The page at ``/``: a chat and the server's load. Three files, which ask for nothing from elsewhere.

They hold nothing secret and need no key; what they fetch needs the one that a person types in.
"""

from pathlib import Path

# Where each file is served, as the page names it, and as what.
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page/style.css": ("style.css", "text/css; charset=utf-8"),
    "/page/app.js": ("app.js", "text/javascript; charset=utf-8"),
}
# Only its own script and style may run, no text can become HTML, and no other page may frame it.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def read(name: str) -> bytes:
    """The content of one of the files."""
    return (Path(__file__).parent / name).read_bytes()
