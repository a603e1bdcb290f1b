"""The server against its own OpenAPI document, with requests that schemathesis makes of it, good and bad."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from served import Served, served

KEY = "a-key-for-admins"
HEADERS = {"Authorization": f"Bearer {KEY}"}
CONFORMS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS = [
    ("POST", "/v1/completions", 40),
    ("POST", "/v1/chat/completions", 40),
    ("POST", "/v1/embeddings", 20),
    ("POST", "/v1/load_lora_adapter", 10),
    ("POST", "/v1/unload_lora_adapter", 10),
    ("POST", "/update_weights", 10),
    ("POST", "/tokenize", 20),
    ("POST", "/detokenize", 20),
    ("GET", "/v1/models/{name}", 10),
]
PLAIN: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": ["0 1", "2"], "max_tokens": 4, "n": 2, "logprobs": 2, "echo": True},
    "/v1/chat/completions": {
        "messages": [{"role": "user", "content": "hello"}],
        "max_completion_tokens": 4,
        "logprobs": True,
        "top_logprobs": 2,
    },
    "/tokenize": {"prompt": "0 1"},
    "/detokenize": {"tokens": [5, 6]},
}
LOOKING = ["/health", "/ready", "/v1/models", "/stats", "/metrics"]


@pytest.fixture(scope="module")
def server(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server on which an admin may do everything."""
    folder = tmp_path_factory.mktemp("openapi")
    arguments = ["--model", str(tiny_llama), "--api-key", "a-key-for-users", "--admin-key", KEY]
    arguments += ["serve.name=tiny", f"serve.lora_roots=[{folder}]", f"serve.weights_roots=[{folder}]"]
    with served(folder, *arguments) as found:
        yield found


@pytest.fixture(scope="module")
def document(server: Served) -> dict[str, Any]:
    """What the server says of itself."""
    found: dict[str, Any] = httpx2.get(f"{server.url}/openapi.json", headers=HEADERS).json()
    return found


@pytest.fixture(scope="module")
def narrowed(document: dict[str, Any]) -> dict[str, Any]:
    """The document as it holds for this server: its model's name, ids of its vocabulary, and short answers.

    Without that, nearly every request would end at a name or id that does not exist.
    """
    found: dict[str, Any] = _narrow(document)
    return found


def _narrow(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_narrow(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _narrow(each) for name, each in schema.items()}
    if found.get("additionalProperties") is False:  # what a client sends
        found["properties"], found["required"] = _likely(found["properties"], found.get("required", []))
    if found.get("maximum") == 2**31 - 1:
        found["maximum"] = 260
    for bound, most in (("maxItems", 8), ("maxLength", 64)):
        if found.get(bound, 0) > most:
            found[bound] = most
    return found


def _likely(fields: dict[str, Any], required: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Fields of a request with fewer choices, and those that every request has."""
    if "model" in fields:
        fields |= {"model": {"const": "tiny"}}
    if "max_tokens" in fields:
        fields |= {"max_tokens": {"type": "integer", "minimum": 1, "maximum": 8}}
        required = [*required, "max_tokens"]
    if "logprobs" in fields:  # else they are hardly ever asked for
        required = [*required, "logprobs"]
    for name in ("prompt", "input"):
        for kind in fields.get(name, {}).get("anyOf", []):
            if kind.get("type") != "null":
                _fill(kind)
    return fields, required


def _fill(kind: dict[str, Any]) -> None:
    """Leave no text and no list empty."""
    if kind["type"] == "array":
        kind["minItems"] = 1
        _fill(kind["items"])
    elif kind["type"] == "string":
        kind["minLength"] = 1


def tried(
    document: dict[str, Any],
    url: str,
    method: str,
    path: str,
    mode: GenerationMode,
    examples: int,
    checks: Any,
) -> list[int]:
    """Send requests that schemathesis makes from a document, the same each time; returns the statuses."""
    schema = schemathesis.openapi.from_dict(document)
    strategy = schema[path][method].as_strategy(generation_mode=mode)
    statuses: list[int] = []

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def send(case: Case[Any]) -> None:
        answer = case.call_and_validate(base_url=url, headers=HEADERS, checks=checks)
        statuses.append(answer.status_code)

    send()
    return statuses


@pytest.mark.parametrize(("method", "path", "examples"), OPERATIONS)
def test_answers_are_what_the_document_says(
    server: Served, narrowed: dict[str, Any], method: str, path: str, examples: int
) -> None:
    """Whatever is asked for: no error of the server, and nothing in the answer that it does not tell of."""
    statuses = tried(narrowed, server.url, method, path, GenerationMode.POSITIVE, examples, CONFORMS)
    assert len(statuses) >= examples / 2


@pytest.mark.parametrize("path", PLAIN)
def test_plain_answers_are_what_the_document_says(
    server: Served, document: dict[str, Any], path: str
) -> None:
    """What people really ask for is answered, with every field as the document has it."""
    operation = schemathesis.openapi.from_dict(document)[path]["POST"]
    case = operation.Case(body={"model": "tiny", **PLAIN[path]}, media_type="application/json")
    assert case.call_and_validate(base_url=server.url, headers=HEADERS, checks=CONFORMS).status_code == 200


@pytest.mark.parametrize(("method", "path", "examples"), [each for each in OPERATIONS if each[0] == "POST"])
def test_what_the_document_forbids_is_refused(
    server: Served, document: dict[str, Any], method: str, path: str, examples: int
) -> None:
    """With an error of the client, never one of the server."""
    checks = [*CONFORMS, negative_data_rejection]
    statuses = tried(
        _without_discriminators(document), server.url, method, path, GenerationMode.NEGATIVE, examples, checks
    )
    assert max(statuses) < 500


def _without_discriminators(schema: Any) -> Any:
    """Two roles share a kind of message, which schemathesis takes for a contradiction."""
    if isinstance(schema, list):
        return [_without_discriminators(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _without_discriminators(each) for key, each in schema.items() if key != "discriminator"}


@pytest.mark.parametrize("path", LOOKING)
def test_what_can_be_looked_at_is_described(server: Served, document: dict[str, Any], path: str) -> None:
    """The routes without any choice."""
    assert 200 in tried(document, server.url, "GET", path, GenerationMode.POSITIVE, 1, CONFORMS)


def test_every_route_is_tried(document: dict[str, Any]) -> None:
    """A new route belongs into the lists above."""
    tried_here = {(path, method) for method, path, _ in OPERATIONS} | {(path, "GET") for path in LOOKING}
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert described == tried_here
