"""Which cluster is meant, and whether anybody is there, before Ray is asked."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynckit.cluster.config import RayConfig
from asynckit.cluster.connection import connect
from asynckit.errors import DependencyError


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An address where nobody listens, and no cluster that this machine remembers."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with socket.socket() as unused:  # bound but not listening
        unused.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unused.getsockname()[1]}"


def remember(folder: Path, address: str) -> None:
    """What Ray leaves on a machine where it has started a cluster."""
    (folder / "ray").mkdir()
    (folder / "ray" / "ray_current_cluster").write_text(address + "\n")


def refused(address: str) -> DependencyError:
    with pytest.raises(DependencyError) as caught:
        connect(RayConfig(address=address))
    return caught.value


def test_a_remembered_cluster_that_is_gone_is_not_waited_for(tmp_path: Path, dead: str) -> None:
    """The note outlives the cluster; without it Ray would be tried for many minutes."""
    remember(tmp_path, dead)
    assert f"nothing answers at {dead}" in refused("auto").message


def test_the_environment_s_cluster_comes_before_the_remembered_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dead: str
) -> None:
    """As Ray itself has it."""
    remember(tmp_path, "127.0.0.1:1")
    monkeypatch.setenv("RAY_ADDRESS", dead)
    assert f"nothing answers at {dead}" in refused("auto").message


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_a_named_cluster_that_is_gone_is_not_waited_for(prefix: str, dead: str) -> None:
    """In either way of writing its address."""
    error = refused(prefix + dead)
    assert f"nothing answers at {prefix}{dead}" in error.message
    assert error.where == "ray.address"
