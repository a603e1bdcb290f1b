"""An HTTP server with a stand-in ring for the tests of a module."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fake_ring import ServerThread
from tiny_models import save_tokenizer


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and its chat template."""
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def shared_server(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    """The server."""
    server = ServerThread(tokenizer_folder, tmp_path_factory.mktemp("s"))
    yield server
    server.close()


@pytest.fixture
def server(shared_server: ServerThread) -> Iterator[ServerThread]:
    """The server, its ring as new."""
    yield shared_server
    shared_server.reset()


@pytest.fixture
def client(server: ServerThread) -> Iterator[httpx2.Client]:
    """Asks the server."""
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        yield client
