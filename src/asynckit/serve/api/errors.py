"""Errors as OpenAI's clients know them, whoever found them: a route, the engine, FastAPI or a middleware."""

import difflib
import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Self

import msgspec
from pydantic import BaseModel
from starlette.responses import Response

from asynckit.errors import AsynckitError
from asynckit.serve.messages import Refused

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

RETRY_SECONDS = 1.0
CLIENT_GONE = 499  # as nginx logs it; nobody is there to read it
_LONGEST_MESSAGE = 1000
_KINDS = ("str", "int", "float", "bool", "none")
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer with a status from 400 on."""

    error: ErrorDetail


class ApiError(Exception):
    """A request ends with this status and body.

    Attributes:
        status: of HTTP.
        message: one line for the person.
        code: for programs, such as ``queue_full``.
        param: the field that is wrong, if one is.
        retry_after: seconds after which it may be tried again.
        headers: more of them for the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        if retry_after is None and status in (429, 503):
            self.retry_after = RETRY_SECONDS

    @classmethod
    def of_refusal(cls, refused: Refused) -> Self:
        """What the router or the engine answered."""
        return cls(
            refused.status,
            refused.message,
            code=refused.code or None,
            param=refused.param,
            retry_after=refused.retry_after,
        )

    @classmethod
    def of_mistake(cls, error: AsynckitError, param: str | None = None) -> Self:
        """A request that can never succeed."""
        return cls(400, f"{error.message} ({error.mend})" if error.mend else error.message, param=param)

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        text = printable(self.message)[:_LONGEST_MESSAGE]
        return {"error": {"message": text, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """The whole answer."""
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return JsonResponse(self.body(), self.status, headers)


class ClientGone(Exception):
    """The client has closed the connection before its answer was complete."""


class JsonResponse(Response):
    """An answer in JSON."""

    media_type = "application/json"

    def __init__(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(msgspec.json.encode(content), status, headers)


def unavailable(message: str, *, code: str = "unavailable", retry_after: float = RETRY_SECONDS) -> ApiError:
    """The server can't answer now but may soon."""
    return ApiError(503, message, code=code, retry_after=retry_after)


def printable(text: str) -> str:
    """``text`` without halves of surrogate pairs, which JSON can name and UTF-8 can't hold."""
    return text.encode(errors="replace").decode()


def validation_error(errors: Sequence[Any], known: Sequence[str] = ()) -> ApiError:
    """The first thing that is wrong with a body, as pydantic found it.

    Args:
        errors: of pydantic.
        known: names of the fields that the route takes.
    """
    first: Mapping[str, Any] = errors[0] if errors else {"type": "invalid", "msg": "", "loc": ()}
    place = [str(each) for each in first["loc"] if each not in ("body", "query", "path")]
    param = printable(".".join(takewhile(_names_a_place, place[:6]))) or None
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first['ctx']['error']} at character {place[0]}")
    if first["type"] == "extra_forbidden":
        return ApiError(400, _unknown_field(place[-1], known), param=param, code="unknown_field")
    if not place and first["type"] == "value_error":
        return ApiError(400, f"the body {first['msg'].removeprefix('Value error, ')}", code="invalid_value")
    if not place:
        return ApiError(400, "the body must be a JSON object (Content-Type: application/json)")
    reasons = dict.fromkeys(each["msg"] for each in errors if each["loc"][:2] == first["loc"][:2])
    return ApiError(400, f"{param}: {' / '.join(reasons)}", param=param, code="invalid_value")


def _names_a_place(part: str) -> bool:
    """A field or an index, and not how pydantic names one kind of a union."""
    return (part.isidentifier() and part not in _KINDS) or part.isdecimal()


def _unknown_field(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name[:100], known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown field {name[:100]!r}{hint}"


def answer_errors(app: "FastAPI") -> None:
    """Let every error of ``app`` have OpenAI's body."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    app.add_exception_handler(ApiError, _answer_api_error)
    app.add_exception_handler(ClientGone, _answer_nobody)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_bug)


async def _answer_api_error(_: "Request", error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _answer_nobody(_: "Request", __: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _answer_validation(request: "Request", error: Exception) -> Response:
    from fastapi.exceptions import RequestValidationError

    assert isinstance(error, RequestValidationError)
    return validation_error(error.errors(), _known_fields(request)).response()


def _known_fields(request: "Request") -> tuple[str, ...]:
    field = getattr(request.scope.get("route"), "body_field", None)
    model = getattr(getattr(field, "field_info", None), "annotation", None)
    return tuple(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else ()


async def _answer_http(request: "Request", error: Exception) -> Response:
    from starlette.exceptions import HTTPException

    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    messages = {
        404: f"there is nothing at {path}",
        405: f"{path} does not take {request.method}",
    }
    message = messages.get(error.status_code, str(error.detail) or HTTPStatus(error.status_code).phrase)
    return ApiError(error.status_code, message, headers=error.headers).response()


async def _answer_bug(_: "Request", __: Exception) -> Response:
    """Starlette raises the error again afterwards, so that uvicorn logs it."""
    return ApiError(500, "an error in the server; its log has the details", code="internal_error").response()
