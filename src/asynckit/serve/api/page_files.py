"""The page at ``/``: a folder of files that are read once and served as they are, under a strict policy."""

from pathlib import Path

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def page_routes(folder: Path = FOLDER) -> list[Route]:
    """A route for each file; ``index.html`` is at ``/``."""
    files = sorted(each for each in folder.iterdir() if each.suffix in _TYPES)
    return [_route(file) for file in files]


def _route(file: Path) -> Route:
    content, media_type = file.read_bytes(), _TYPES[file.suffix]

    async def answer(_: HttpRequest) -> Response:
        return Response(content, headers=_HEADERS, media_type=media_type)

    return Route("/" if file.name == "index.html" else f"/{file.name}", answer, include_in_schema=False)
