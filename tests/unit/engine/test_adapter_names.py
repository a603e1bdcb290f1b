"""Adapter names: taken once, found again, never confused with an earlier adapter of the same name."""

from typing import Any

import pytest

from asynckit.engine.adapter_names import AdapterNames
from asynckit.engine.request import Request
from asynckit.errors import InputError, RequestError


def registered(*names: str) -> AdapterNames:
    known = AdapterNames()
    for name in names:
        known.put(name, known.reserve(name))
    return known


def test_a_name_registered_anew_has_a_new_number() -> None:
    """What was kept for the old adapter is not taken for the new one's."""
    known = registered("a", "b")
    numbers = {known.number("a"), known.number("b")}
    known.remove("a")
    known.put("a", known.reserve("a"))
    assert known.number("a") not in numbers
    assert list(known) == ["b", "a"]


def test_a_name_that_was_only_reserved_is_free() -> None:
    """An adapter that turns out to be broken does not block its name."""
    known = registered()
    assert known.reserve("a") != known.reserve("a")
    assert len(known) == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a", "is registered"),
        ("", "must be a string and not be empty"),
        (5, "must be a string"),
        (None, "must be a string"),
        ([], "must be a string"),
    ],
)
def test_a_name_must_be_a_free_string(name: Any, words: str) -> None:
    """Two adapters never answer to one name."""
    with pytest.raises(InputError, match=words):
        registered("a").reserve(name)


def test_an_unknown_name_is_refused() -> None:
    """A misspelt name is met with the one that was probably meant."""
    known = registered("french", "german")
    with pytest.raises(InputError, match="no adapter of this name"):
        known.number("frensh")
    names: tuple[Any, ...] = (5, None, [])
    for name in names:
        with pytest.raises(InputError, match="no adapter of this name"):
            known.number(name)
    with pytest.raises(RequestError, match="no adapter 'frensh'") as caught:
        known.requested(Request("r", (5,), adapter="frensh"))
    assert caught.value.mend == "did you mean 'french'?"
    known.clear()
    with pytest.raises(RequestError) as caught:
        known.requested(Request("r", (5,), adapter="frensh"))
    assert caught.value.mend == "register it first"
