"""Routes of the page, which need no key."""

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from asynckit.serve.api.page import FILES, HEADERS, read

PAGE_PATHS = frozenset(FILES)


def page_routes() -> list[Route]:
    """A route for each file."""
    return [_route(path, read(name), media_type) for path, (name, media_type) in FILES.items()]


def _route(path: str, content: bytes, media_type: str) -> Route:
    async def answer(_: HttpRequest) -> Response:
        return Response(content, headers=HEADERS, media_type=media_type)

    return Route(path, answer, include_in_schema=False)
