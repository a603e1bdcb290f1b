"""What stands between the world and the routes: keys, limits, validation."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fake_ring import ServerThread
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asynckit.serve.api.keys import ADMIN_PATHS, Keys, bearer, fingerprint
from asynckit.serve.api.limits import DEEPEST, excess

GUARDED = ("/v1/models", "/v1/completions", "/tokenize", "/stats", "/metrics", "/openapi.json", "/nothing")
MOST = 4096


@pytest.fixture(scope="module")
def locked(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    """A server with keys."""
    server = ServerThread(
        *(tokenizer_folder, tmp_path_factory.mktemp("s")),
        api_keys=("alice", "bob"),
        admin_key="root",
        max_body_bytes=MOST,
        max_header_bytes=2048,
    )
    yield server
    server.close()


@pytest.fixture
def asking(locked: ServerThread) -> Iterator[httpx2.Client]:
    """Asks it."""
    with httpx2.Client(base_url=locked.url, timeout=30) as client:
        yield client


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


@pytest.mark.parametrize("path", [*GUARDED, *sorted(ADMIN_PATHS)])
def test_every_route_needs_a_key(asking: httpx2.Client, path: str) -> None:
    """Without the key, whatever is asked for is 401, before the body is looked at."""
    for headers in (
        {},
        key("eve"),
        {"Authorization": "Bearer"},
        {"Authorization": "Basic alice"},
        key("alic"),
    ):
        answer = asking.post(path, headers=headers, content=b"x" * 2 * MOST)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/health", "/ready", "/", "/page/app.js"])
def test_liveness_and_the_page_are_open(asking: httpx2.Client, path: str) -> None:
    """What shows nothing needs no key."""
    assert asking.get(path).status_code == 200


def test_owners(locked: ServerThread, asking: httpx2.Client) -> None:
    """A request's owner is a label of its key and never the key."""
    for name in ("alice", "bob"):
        answer = asking.post("/v1/completions", json={"model": "tiny", "prompt": "the"}, headers=key(name))
        assert answer.status_code == 200
    owners = [each.owner for each in locked.ring.generates[-2:]]
    assert owners == [fingerprint("alice"), fingerprint("bob")]


def test_operating_needs_the_admin_key(asking: httpx2.Client) -> None:
    """Users can't change adapters; the operator can use every route."""
    body = {"lora_name": "x", "lora_path": "/"}
    assert asking.post("/v1/load_lora_adapter", json=body, headers=key("alice")).status_code == 403
    answer = asking.post("/v1/load_lora_adapter", json=body, headers=key("root"))
    assert answer.json()["error"]["code"] == "folder_not_allowed"
    assert asking.get("/v1/models", headers=key("root")).status_code == 200


def test_without_an_admin_key_nobody_operates(server: ServerThread) -> None:
    """No key opens what is locked for all."""
    answer = httpx2.post(
        f"{server.url}/update_weights", json={"version": 1, "path": "/x"}, headers=key("root")
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "no_admin_key")


def test_two_keys_are_no_key() -> None:
    """A request with two Authorization headers has none that counts."""
    header = (b"authorization", b"Bearer a")
    assert bearer([header]) == b"a"
    assert bearer([header, header]) is None


@given(st.lists(st.text(min_size=1), unique=True, max_size=5), st.binary(max_size=8))
def test_only_the_keys_open(keys: list[str], other: bytes) -> None:
    """Each key has its owner; anything else has none."""
    known = Keys.of(keys, None)
    assert all(known.owner(each.encode()) == fingerprint(each) for each in keys)
    if keys and other not in [each.encode() for each in keys]:
        assert known.owner(other) is None
        assert known.owner(None) is None


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large(asking: httpx2.Client, chunked: bool) -> None:
    """The limit counts whether or not the length is announced."""
    content: Any = iter([b"x" * MOST, b"x"]) if chunked else b"x" * (MOST + 1)
    answer = asking.post("/tokenize", content=content, headers=key("alice"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_headers_that_are_too_large(locked: ServerThread) -> None:
    """They are refused with OpenAI's body, and the connection is closed."""
    head = b"GET /ready HTTP/1.1\r\nhost: x\r\nlong: " + b"x" * 4096
    for content, status, code in (
        (head, b"400", "bad_http"),
        (head + b"\r\n\r\n", b"431", "headers_too_large"),
    ):
        answer = raw(locked, content)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == code


def raw(server: ServerThread, content: bytes) -> bytes:
    """What the server answers to these bytes until it closes the connection."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(content)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


@given(
    st.recursive(
        st.integers() | st.text('[]{}"\\a'),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text('[}"', max_size=2), inner, max_size=3)
        ),
    ),
    st.integers(1, 5),
)
@example({"}": {"}": [[]]}}, 3)
def test_depth_is_that_of_the_json(value: Any, deepest: int) -> None:
    """Brackets in strings don't count, and the limit is exact."""
    assert (excess(json.dumps(value).encode(), deepest) == "depth") == (depth(value) > deepest)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@pytest.mark.parametrize(
    "body", ['{"a":' * 5000, "[" * 100_000, "{}" + "[]" * 100_000, '"' + "[" * 100_000 + '"']
)
def test_deep_bodies_are_refused(client: httpx2.Client, body: str) -> None:
    """However deep a body is nested, it is the client's mistake."""
    answer = client.post("/tokenize", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert DEEPEST < 1000


def test_bodies_of_many_parts_are_refused(client: httpx2.Client) -> None:
    """What costs seconds to check is refused before; a text may have as many brackets as it likes."""
    parts = [{"type": "text", "text": "[{:"}] * 1000
    body = {"model": "tiny", "messages": [{"role": "user", "content": parts}] * 100}
    assert client.post("/v1/chat/completions", json=body).json()["error"]["code"] == "too_much_parts"
    answer = client.post("/tokenize", json={"prompt": '[{:"' * 30_000})
    assert answer.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("body", [b'"' + b'\\"' * 2_000_000, b'"\\' * 2_000_000, b'["' * 2_000_000])
@pytest.mark.timeout(30)
def test_counting_takes_linear_time(body: bytes) -> None:
    """Strings without an end, or made of escapes, don't make the count slow."""
    assert excess(b"[" * 100 + body)


NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -1, 0, 1, 2**63, 1e308]))
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5), st.just("\ud800")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = (
    *("temperature", "top_p", "top_k", "min_p", "n", "max_tokens", "stop", "seed", "logit_bias", "logprobs"),
    *("echo", "stream_options", "response_format", "stop_token_ids", "allowed_token_ids", "min_tokens"),
    *(
        "guided_json",
        "guided_regex",
        "best_of",
        "user",
        "prompt_logprobs",
        "tools",
        "tool_choice",
        "nonsense",
    ),
    *(
        "chat_template_kwargs",
        "max_completion_tokens",
        "repetition_penalty",
        "return_token_ids",
        "top_logprobs",
    ),
)
PLAUSIBLE: dict[str, Any] = {
    "/v1/completions": {"model": "tiny", "prompt": "the", "max_tokens": 2},
    "/v1/chat/completions": {"model": "tiny", "messages": [{"role": "user", "content": "the"}]},
    "/tokenize": {"prompt": "the"},
    "/detokenize": {"tokens": [1]},
    "/v1/embeddings": {"model": "tiny", "input": "the"},
}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(PLAUSIBLE)),
    st.dictionaries(st.sampled_from(NAMES), JUNK, max_size=3),
    st.dictionaries(st.sampled_from(["model", "prompt", "messages", "tokens", "input"]), JUNK, max_size=1),
)
def test_no_body_breaks_the_server(
    client: httpx2.Client, path: str, fields: dict[str, Any], changed: dict[str, Any]
) -> None:
    """Whatever a body holds, the answer is a success or says what is wrong with the request."""
    body = json.dumps({**PLAUSIBLE[path], **fields, **changed})
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        error = answer.json()["error"]
        assert error["message"]
        assert error["type"] == "invalid_request_error"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(PLAUSIBLE)), st.binary(max_size=200))
def test_no_bytes_break_the_server(client: httpx2.Client, path: str, content: bytes) -> None:
    """Garbage is the client's mistake."""
    answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("/v1/completions", {"temprature": 1}, "did you mean 'temperature'"),
        ("/v1/completions", {"n": 65}, "one request may have 64"),
        ("/v1/completions", {"prompt": ["a"] * 65}, "one request may have 64"),
        ("/v1/completions", {"best_of": 2}, "best_of must equal n"),
        ("/v1/completions", {"max_tokens": 0}, "needs echo"),
        ("/v1/completions", {"max_tokens": 512}, "prompt and response may have 512 together"),
        ("/v1/completions", {"prompt": "a" * 100_000}, "does not fit"),
        ("/v1/completions", {"prompt": [320]}, "outside the vocabulary"),
        ("/v1/completions", {"prompt": [[1], []]}, "the prompt is empty"),
        ("/v1/completions", {"guided_regex": "(", "max_tokens": 2}, "regex can't be"),
        ("/v1/completions", {"guided_regex": "a", "guided_json": {}}, "exclude each other"),
        ("/v1/completions", {"temperature": 1e-9}, "temperature must be 0"),
        ("/v1/completions", {"stop": ["a"] * 17}, "17 entries"),
        ("/v1/completions", {"stream_options": {}}, "needs stream"),
        ("/v1/chat/completions", {"messages": []}, "at least 1 item"),
        ("/v1/chat/completions", {"messages": [{"role": "king", "content": ""}]}, "role"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "text",
        ),
        ("/v1/chat/completions", {"chat_template_kwargs": {"chat_template": "x"}}, "can't be set"),
        ("/v1/chat/completions", {"chat_template_kwargs": {"x": [1]}}, "chat_template_kwargs"),
        ("/v1/chat/completions", {"tool_choice": "required"}, "needs tools"),
        ("/v1/chat/completions", {"top_logprobs": 2}, "needs logprobs"),
        ("/tokenize", {"messages": [{"role": "user", "content": "x"}]}, "either prompt or messages"),
    ],
)
def test_what_is_wrong_is_said(
    client: httpx2.Client, path: str, fields: dict[str, Any], message: str
) -> None:
    """Limits hold before anything is generated, and the message says which."""
    answer = client.post(path, json={**PLAUSIBLE[path], **fields})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize("big", [2**64, -(2**63) - 1, 2**70])
def test_huge_integers_are_refused(client: httpx2.Client, big: int) -> None:
    """Wherever a chat may hold them, as often as they come; the largest that fit are taken."""
    path = "/v1/chat/completions"
    tool = {"type": "function", "function": {"name": "f", "parameters": {"x": [{"y": big}]}}}
    for fields in ({"chat_template_kwargs": {"x": big}}, {"tools": [tool]}) * 2:
        answer = client.post(path, json={**PLAUSIBLE[path], **fields})
        assert answer.status_code == 400, answer.text
        assert "64 bits" in answer.json()["error"]["message"]
        assert answer.json()["error"]["param"].startswith(next(iter(fields)))
    for fits in (2**64 - 1, -(2**63)):
        answer = client.post(path, json={**PLAUSIBLE[path], "chat_template_kwargs": {"x": fits}})
        assert answer.status_code == 200, answer.text


def test_ignored_fields(client: httpx2.Client) -> None:
    """What OpenAI's clients send and means nothing here does no harm."""
    fields = {"user": "me", "store": True, "metadata": {"a": "b"}, "service_tier": "auto"}
    answer = client.post("/v1/completions", json={**PLAUSIBLE["/v1/completions"], **fields})
    assert answer.status_code == 200


def test_field_names_that_are_no_text(client: httpx2.Client) -> None:
    """The message says that it is a name, wherever it stands."""
    for body in (
        '{"model": "tiny", "prompt": "a", "\\ud800": 1}',
        '{"model": "tiny", "prompt": "a", "stream_options": {"\\ud800": 1}}',
    ):
        headers = {"Content-Type": "application/json"}
        answer = client.post("/v1/completions", content=body, headers=headers)
        assert answer.status_code == 400
        assert "a field whose name" in answer.json()["error"]["message"]


def test_whole_numbers_are_integers(client: httpx2.Client) -> None:
    """However JSON writes them; parts of one are none."""
    body = {"model": "tiny", "prompt": [7, 8.0], "max_tokens": 3.0, "n": 2.0, "seed": 1.0}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 6
    for wrong in (2.5, True, "3", 1e300):
        assert client.post("/v1/completions", json=body | {"max_tokens": wrong}).status_code == 400
        assert client.post("/v1/completions", json=body | {"prompt": [7, wrong]}).status_code == 400


def test_the_document_is_ours(client: httpx2.Client) -> None:
    """The OpenAPI document has every route with its errors, and no error that never comes."""
    document = client.get("/openapi.json").json()
    assert {"/v1/completions", "/v1/chat/completions", "/health", "/update_weights"} <= document[
        "paths"
    ].keys()
    for methods in document["paths"].values():
        for operation in methods.values():
            assert "422" not in operation["responses"]
            assert "503" in operation["responses"]


def test_other_methods_and_paths(client: httpx2.Client) -> None:
    """Their errors have OpenAI's body too."""
    for answer, status in ((client.get("/nothing"), 404), (client.get("/tokenize"), 405)):
        assert answer.status_code == status
        assert answer.json()["error"]["message"]
