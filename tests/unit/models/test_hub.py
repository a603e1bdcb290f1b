"""Keeps the Hub's answers, silences and refusals to one sentence, with an HTTP server in its place."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"pickle",
    "x/a.json": b"{}",
}

# The Hub's client reads its settings when it is imported, so each call gets a process of its own.
_FETCH = """
import json, sys
from asynckit.errors import AsynckitError
from asynckit.models import hub
from asynckit.models.files import model_files
hub._ANSWER_SECONDS = 0.5
try:
    files = model_files(code=False)
    path = hub.fetch_from_hub(sys.argv[1], sys.argv[2] or None, files, cache_dir=None, progress=False)
    print(json.dumps({"files": sorted(p.name for p in path.rglob("*")), "path": str(path)}))
except AsynckitError as error:
    print(json.dumps({"kind": type(error).__name__, "message": error.message, "mend": error.mend}))
"""


class Hub(BaseHTTPRequestHandler):
    """The few routes of the Hub that a download uses, and names that it refuses."""

    asked: list[str] = []  # noqa: RUF012 - one list for all requests, emptied by the fixture

    def do_HEAD(self) -> None:
        """Answer like GET, without the body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer one request."""
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        if path == "/api/models/org/good" or path.startswith("/api/models/org/good/revision/"):
            if path.rsplit("/", 1)[1] not in ("good", "main", COMMIT):
                self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return
            self._answer_json({"id": "org/good", "sha": COMMIT, "siblings": [], "tags": []})
        elif path.startswith("/api/models/org/good/tree/"):
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}  # noqa: S324 - git's
                for name, content in FILES.items()
            ]
            self._answer_json(entries)
        elif path.startswith(f"/org/good/resolve/{COMMIT}/"):
            content = FILES[path.removeprefix(f"/org/good/resolve/{COMMIT}/")]
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self._answer(200, content, headers)
        elif "org/gated" in path:
            self._answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif "org/broken" in path:
            self._answer(500, b"{}", {})
        else:
            self._answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _answer_json(self, document: Any) -> None:
        self._answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The address of a Hub of our own."""
    Hub.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(home: Path, endpoint: str, name: str, revision: str = "", **variables: str) -> dict[str, Any]:
    """What ``fetch_from_hub`` returned or raised in a process of its own, with its cache in ``home``."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment = {**own, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1", **variables}
    done = subprocess.run(
        [sys.executable, "-c", _FETCH, name, revision],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_model_is_fetched_without_pickles(endpoint: str, tmp_path: Path) -> None:
    """Only the files that loading needs cross the network."""
    answer = fetch(tmp_path, endpoint, "org/good")
    assert answer["files"] == ["config.json", "model.safetensors"]
    assert not any("pytorch_model" in path for path in Hub.asked)


def test_a_fetched_model_is_there_without_the_hub(endpoint: str, tmp_path: Path) -> None:
    """Offline, by setting or by a dead network, the cache serves."""
    path = fetch(tmp_path, endpoint, "org/good")["path"]
    assert fetch(tmp_path, endpoint, "org/good", HF_HUB_OFFLINE="1")["path"] == path
    assert fetch(tmp_path, "http://127.0.0.1:9", "org/good")["path"] == path


def test_a_fetched_commit_is_not_asked_for_again(endpoint: str, tmp_path: Path) -> None:
    """A commit never changes, so a second start needs no network."""
    path = fetch(tmp_path, endpoint, "org/good", COMMIT)["path"]
    Hub.asked.clear()
    assert fetch(tmp_path, endpoint, "org/good", COMMIT)["path"] == path
    assert Hub.asked == []


@pytest.mark.parametrize(
    ("name", "revision", "kind", "words"),
    [
        ("org/absent", "", "ModelNotFound", "neither a local folder org/absent nor such a public model"),
        ("org/good", "v9", "ModelNotFound", "org/good has no revision 'v9'"),
        ("org/gated", "", "DependencyError", "asks for permission"),
        ("org/broken", "", "ModelNotFound", "cannot be reached"),
        ("org/a--b", "", "ModelNotFound", "cannot be a Hub id"),
    ],
)
def test_a_refusal_is_one_sentence(
    endpoint: str, tmp_path: Path, name: str, revision: str, kind: str, words: str
) -> None:
    """Each way in which the Hub says no has its own message and mend."""
    answer = fetch(tmp_path, endpoint, name, revision)
    assert answer["kind"] == kind
    assert words in answer["message"]
    assert "\n" not in answer["message"]
    assert answer["mend"]


def test_offline_without_the_model_is_one_sentence(endpoint: str, tmp_path: Path) -> None:
    """HF_HUB_OFFLINE is honoured: the network is not touched."""
    answer = fetch(tmp_path, endpoint, "org/good", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in answer["message"]
    assert Hub.asked == []


def test_a_silent_hub_does_not_hang(tmp_path: Path) -> None:
    """A server that accepts and never answers costs the time limit, not for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        answer = fetch(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}", "org/good")
    assert "cannot be reached" in answer["message"]
    assert "check the network" in answer["mend"]
