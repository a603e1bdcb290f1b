"""A server of several engines: over shared models, over replicas, and over the nodes of a Ray cluster."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from served import Served, served

ASKED = {"model": "tiny", "prompt": "0 1 2", "max_tokens": 30, "temperature": 0}
EXACT = ("serve.name=tiny", "engine.dtype=float32", "engine.threads=1", "serve.access_log=false")


def text(server: Served, **changes: Any) -> str:
    """What the server makes of a prompt, greedily."""
    answer = httpx2.post(f"{server.url}/v1/completions", json={**ASKED, **changes}, timeout=60)
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["choices"][0]["text"]
    return found


def until_ready(server: Served, replicas: int) -> None:
    """Wait until so many replicas take requests."""
    end = time.monotonic() + 90
    while True:
        answer = httpx2.get(f"{server.url}/stats", timeout=10)
        if answer.status_code == 200 and answer.json()["replicas_ready"] == replicas:
            return
        assert time.monotonic() < end, answer.text
        time.sleep(0.1)


@pytest.fixture(scope="module")
def alone(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What one engine in one process says."""
    with served(tmp_path_factory.mktemp("alone"), "--model", str(tiny_llama), *EXACT) as server:
        return text(server)


def test_ranks_say_what_one_process_says_and_come_back_together(
    tiny_llama: Path, tmp_path: Path, alone: str
) -> None:
    """Two processes hold the model; when one is killed both are started again, and say the same."""
    with served(tmp_path, "--model", str(tiny_llama), "--tp", "2", *EXACT) as server:
        assert text(server) == alone
        before = server.pids("worker")
        os.kill(server.pids("worker-0-1")[0], signal.SIGKILL)
        until_ready(server, 0)
        until_ready(server, 1)
        assert text(server) == alone
        assert not set(before) & set(server.pids("worker"))


def test_a_replica_serves_while_another_is_gone(tiny_llama: Path, tmp_path: Path, alone: str) -> None:
    """Nobody who asks after the loss is turned away."""
    with served(tmp_path, "--model", str(tiny_llama), "--replicas", "2", *EXACT) as server:
        os.kill(server.pids("worker-1-0")[0], signal.SIGKILL)
        until_ready(server, 1)
        assert [text(server) for _ in range(5)] == [alone] * 5
        until_ready(server, 2)
        assert [text(server, prompt=f"0 1 2 {i}", max_tokens=3) for i in range(4)]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Ray cluster on this machine: a head without CPUs and two nodes with one each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def test_engines_run_on_the_nodes_of_a_cluster(
    cluster: Any, tiny_llama: Path, tmp_path: Path, alone: str
) -> None:
    """Over encrypted TCP; a node may die, and another take its place."""
    where = f"ray.address={cluster.address}"
    with served(tmp_path, "--model", str(tiny_llama), "--replicas", "2", where, *EXACT) as server:
        assert [text(server) for _ in range(3)] == [alone] * 3
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        until_ready(server, 1)
        assert text(server) == alone
        cluster.add_node(num_cpus=1)
        until_ready(server, 2)
        assert text(server) == alone
