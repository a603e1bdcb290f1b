"""The HTTP routes, as FastAPI knows them, inside of what guards them.

::

    uvicorn -> AccessLog -> KeyCheck -> BodyLimits -> FastAPI: routes
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from asynckit import __version__
from asynckit.serve.api import operating, text_routes
from asynckit.serve.api.access_log import AccessLog, LineWriter
from asynckit.serve.api.chats import chat
from asynckit.serve.api.completions import complete
from asynckit.serve.api.errors import AsgiApp, ErrorBody, answer_errors
from asynckit.serve.api.keys import KeyCheck, Keys
from asynckit.serve.api.limits import BodyLimits
from asynckit.serve.api.page_files import PAGE_PATHS, page_routes
from asynckit.serve.api.schemas.chat import ChatAnswer, ChatRequest
from asynckit.serve.api.schemas.completion import CompletionAnswer, CompletionRequest
from asynckit.serve.api.schemas.other import (
    DetokenizeAnswer,
    DetokenizeRequest,
    Done,
    EmbeddingsAnswer,
    EmbeddingsRequest,
    Health,
    LoadAdapterRequest,
    ModelCard,
    ModelList,
    Readiness,
    Stats,
    TokenizeAnswer,
    TokenizeRequest,
    UnloadAdapterRequest,
    UpdateWeightsRequest,
)
from asynckit.serve.api.service import Service, while_connected

OPEN_PATHS = frozenset({"/health", "/ready"})
_REASONS = {
    400: "it can never succeed: the message says why",
    401: "no API key, or an unknown one",
    403: "the operator has not allowed it",
    404: "no such model or adapter",
    408: "the body came in too slowly",
    409: "it contradicts what is there",
    413: "the body is too large",
    431: "path and headers are too large",
    429: "too many requests wait; Retry-After says when to come back",
    500: "an error in the server",
    503: "starting, draining or broken; Retry-After says when to come back",
    504: "it took too long",
}
Responses = dict[int | str, dict[str, Any]]
_LOOKING = (401, 503, 504)
_ASKING = (400, 401, 404, 408, 413, 429, 500, 503, 504)
_OPERATING = (*_ASKING, 403, 409)


def errors(*statuses: int) -> Responses:
    """What the OpenAPI document says of a route's errors."""
    return {each: {"model": ErrorBody, "description": _REASONS[each]} for each in sorted(statuses)}


def build_app(service: Service, writer: LineWriter | None) -> AsgiApp:
    """Everything that answers HTTP; ``writer`` gets the access log."""
    settings = service.settings
    app = FastAPI(
        title="asynckit serve",
        version=__version__,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    answer_errors(app)
    _add_generation(app, service)
    _add_text(app, service)
    _add_operating(app, service)
    _add_looking(app, service)
    if settings.page:
        app.router.routes.extend(page_routes())
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]  # FastAPI's own way to change it
    open_paths = OPEN_PATHS | PAGE_PATHS if settings.page else OPEN_PATHS
    inner = BodyLimits(app, settings.max_body_bytes, settings.max_header_bytes)
    guarded = KeyCheck(inner, Keys.of(settings.api_keys, settings.admin_key), open_paths)
    return AccessLog(guarded, service.streams.count, writer)


def _add_generation(app: FastAPI, service: Service) -> None:
    stream: Responses = {
        200: {"content": {"text/event-stream": {}}, "description": "the answer, or with stream its chunks"}
    }

    @app.post("/v1/completions", response_model=CompletionAnswer, responses={**stream, **errors(*_ASKING)})
    async def completions(body: CompletionRequest, request: HttpRequest) -> Any:
        """Go on with a text."""
        return await while_connected(request.receive, complete(service, body, request))

    @app.post("/v1/chat/completions", response_model=ChatAnswer, responses={**stream, **errors(*_ASKING)})
    async def chat_completions(body: ChatRequest, request: HttpRequest) -> Any:
        """Answer a chat."""
        return await while_connected(request.receive, chat(service, body, request))

    @app.post("/v1/embeddings", response_model=EmbeddingsAnswer, responses=errors(*_ASKING))
    async def embeddings(body: EmbeddingsRequest, request: HttpRequest) -> Any:
        """Turn texts into vectors."""
        return await while_connected(request.receive, text_routes.embeddings(service, body, request))


def _add_text(app: FastAPI, service: Service) -> None:
    @app.post("/tokenize", response_model=TokenizeAnswer, responses=errors(*_ASKING))
    async def tokenize(body: TokenizeRequest, request: HttpRequest) -> Any:
        """Turn a text or a chat into token ids."""
        return await while_connected(request.receive, text_routes.tokenize(service, body))

    @app.post("/detokenize", response_model=DetokenizeAnswer, responses=errors(*_ASKING))
    async def detokenize(body: DetokenizeRequest, request: HttpRequest) -> Any:
        """Turn token ids into text."""
        return await while_connected(request.receive, text_routes.detokenize(service, body))


def _add_operating(app: FastAPI, service: Service) -> None:
    """What is begun here goes on when the client leaves: half of it would be worse."""

    @app.post("/v1/load_lora_adapter", response_model=Done, responses=errors(*_OPERATING))
    async def load_lora_adapter(body: LoadAdapterRequest) -> Any:
        """Let requests name an adapter; needs the admin key."""
        return await operating.load_adapter(service, body)

    @app.post("/v1/unload_lora_adapter", response_model=Done, responses=errors(*_OPERATING))
    async def unload_lora_adapter(body: UnloadAdapterRequest) -> Any:
        """Take an adapter away; needs the admin key."""
        return await operating.unload_adapter(service, body)

    @app.post("/update_weights", response_model=Done, responses=errors(*_OPERATING))
    async def update_weights(body: UpdateWeightsRequest) -> Any:
        """Sample with other weights of the same model; needs the admin key."""
        return await operating.update_weights(service, body)


def _add_looking(app: FastAPI, service: Service) -> None:
    probe = operating.HealthProbe(service)

    def add(path: str, answer: Callable[[], Awaitable[Response]], model: Any, *statuses: int) -> None:
        async def route() -> Any:
            return await answer()

        route.__doc__ = answer.__doc__
        app.get(path, response_model=model, responses=errors(*statuses))(route)

    async def health() -> Response:
        """Whether a probe has passed through the whole ring."""
        return await probe.answer()

    async def ready() -> Response:
        """Whether requests are taken."""
        return await operating.ready(service, probe)

    async def models() -> Response:
        """The model and its adapters."""
        return await operating.models(service)

    async def stats() -> Response:
        """Where the server stands."""
        return await operating.stats(service)

    add("/health", health, Health, 503)
    add("/ready", ready, Readiness, 503)
    add("/v1/models", models, ModelList, *_LOOKING)
    add("/stats", stats, Stats, *_LOOKING)

    @app.get("/v1/models/{name:path}", response_model=ModelCard, responses=errors(*_LOOKING, 404))
    async def model(name: str) -> Any:
        """The model, or one of its adapters."""
        return await operating.model(service, name)

    text: Responses = {200: {"content": {"text/plain": {}}, "description": "Prometheus text"}}

    @app.get("/metrics", response_class=Response, responses={**text, **errors(*_LOOKING)})
    async def metrics() -> Response:
        """All metrics."""
        return await operating.metrics(service)


def _document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document without its own kind of validation error: ours are 400, with OpenAI's body."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        for methods in document["paths"].values():
            for operation in methods.values():
                operation["responses"].pop("422", None)
        schemas: Mapping[str, Any] = document["components"]["schemas"]
        document["components"]["schemas"] = {
            name: schema for name, schema in schemas.items() if "ValidationError" not in name
        }
        app.openapi_schema = document
    return app.openapi_schema
