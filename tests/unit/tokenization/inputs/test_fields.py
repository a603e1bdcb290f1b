"""Paths of fields."""

import pytest

from asynckit.errors import ConfigError
from asynckit.tokenization.inputs.faults import Unusable
from asynckit.tokenization.inputs.fields import parse_field


@pytest.mark.parametrize(
    ("text", "root", "steps"),
    [
        ("text", "text", ()),
        ("a.b", "a", ("b",)),
        ("messages[0].content", "messages", (0, "content")),
        ("a[-1][2]", "a", (-1, 2)),
        ('["odd key"].x', "odd key", ("x",)),
        ('a["b.c"]', "a", ("b.c",)),
        ("with space", "with space", ()),
        ('["a\\"b"]', 'a"b', ()),
    ],
)
def test_paths(text: str, root: str, steps: tuple[str | int, ...]) -> None:
    """Names, indices and quoted names may follow one another."""
    path = parse_field(text)
    assert (path.root, path.steps) == (root, steps)


@pytest.mark.parametrize(
    "text", ["", ".a", "a.", "a..b", "a[", "a[x]", "[0]", 'a["b]', "a]b", 'a["b"]c', '["\\x"]']
)
def test_what_is_no_path(text: str) -> None:
    """It is refused with an example."""
    with pytest.raises(ConfigError, match="names no field") as caught:
        parse_field(text)
    assert "messages[0].content" in caught.value.mend


@pytest.mark.parametrize(
    ("path", "reason", "mend"),
    [
        ("m.contnt", "no field 'contnt' in m; it has content, list", "did you mean content?"),
        ("m.content.x", "m.content is text, not an object", "needs an object"),
        ("m.content[0]", "m.content is text, not a list", "needs a list"),
        ("m.list[3]", "m.list has 1 elements, no [3]", "every record"),
    ],
)
def test_what_is_not_there(path: str, reason: str, mend: str) -> None:
    """The message names the place up to which the path leads, and what is there."""
    with pytest.raises(Unusable) as caught:
        parse_field(path).find({"content": "x", "list": [1]})
    assert caught.value.reason == reason
    assert mend in caught.value.mend
