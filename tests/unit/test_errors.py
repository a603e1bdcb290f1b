"""Errors keep their parts and their class on the way between processes."""

import pickle

import pytest

from asynckit import errors
from asynckit.errors import AsynckitError, ConfigError


def _kinds() -> list[type[AsynckitError]]:
    return [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AsynckitError)
    ]


@pytest.mark.parametrize("kind", _kinds())
def test_an_error_survives_the_trip_between_processes(kind: type[AsynckitError]) -> None:
    """A worker's error reaches the person whole."""
    error = kind("wrong", where="conf.yaml:1:2", mend="write it right")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is kind
    assert (copy.message, copy.where, copy.mend) == ("wrong", "conf.yaml:1:2", "write it right")


def test_the_tree_in_the_docstring_lists_every_error_with_its_code() -> None:
    """The documented exit codes are the real ones."""
    for kind in _kinds():
        line = next(line for line in (errors.__doc__ or "").splitlines() if kind.__name__ in line)
        assert str(kind.exit_code) in line.split()


def test_the_text_has_place_and_mend() -> None:
    """What a log shows is enough to act on."""
    assert str(ConfigError("wrong", where="-n", mend="use 1")) == "-n: wrong (use 1)"
    assert str(ConfigError("wrong")) == "wrong"
