"""Reading tool calls out of text."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.serve.api.tool_calls import Argued, Called, Found, Said, ToolCalls, ToolFormat, format_of

CALL = '{"name": "look", "arguments": {"at": "a \\"}{ b", "n": [1, {"x": null}]}}'
ARGUMENTS = '{"at": "a \\"}{ b", "n": [1, {"x": null}]}'
NAMES = ("look", "wait")
SCRAPS = (
    *(
        "<tool_call>",
        "</tool_call>",
        "<tool",
        "[TOOL_CALLS]",
        "[",
        "]",
        ",",
        ";",
        " ",
        "\n",
        "{",
        "}",
        '"',
        "\\",
    ),
    *(CALL, '{"name": "wait", "parameters": {}}', '{"parameters": {"a": 1}, "name": "look"}', "hi", "é🙂"),
    *(
        '{"name": "unknown", "arguments": {}}',
        '{"name": "look", "arguments": "{}"}',
        '{"name":',
        "<|python_tag|>",
    ),
)


def read(how: ToolFormat, pieces: list[str]) -> tuple[str, list[tuple[str, str]]]:
    """Text and calls of an answer."""
    calls = ToolCalls(how, NAMES)
    found: list[Found] = [each for piece in pieces for each in calls.push(piece)]
    found += calls.finish()
    said = "".join(each.text for each in found if isinstance(each, Said))
    names = [each.name for each in found if isinstance(each, Called)]
    arguments = [
        "".join(each.text for each in found if isinstance(each, Argued) and each.index == place)
        for place in range(len(names))
    ]
    assert [each.index for each in found if isinstance(each, Called)] == list(range(len(names)))
    return said, list(zip(names, arguments, strict=True))


@pytest.mark.parametrize(
    ("how", "text", "said", "calls"),
    [
        (ToolFormat.HERMES, f"Sure.\n<tool_call>\n{CALL}\n</tool_call>", "Sure.", [("look", ARGUMENTS)]),
        (
            ToolFormat.HERMES,
            f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>",
            "",
            [("look", ARGUMENTS)] * 2,
        ),
        (ToolFormat.HERMES, "a <b> <tool_call> no", "a <b> <tool_call> no", []),
        (ToolFormat.HERMES, "ends with blanks \n", "ends with blanks \n", []),
        (ToolFormat.HERMES, '<tool_call>{"name": "look", "arg', '<tool_call>{"name": "look", "arg', []),
        (ToolFormat.HERMES, '<tool_call>{"name": "look", "arguments": {"a', "", [("look", '{"a')]),
        (ToolFormat.LLAMA, CALL.replace("arguments", "parameters"), "", [("look", ARGUMENTS)]),
        (ToolFormat.LLAMA, f"<|python_tag|>{CALL}; {CALL}", "", [("look", ARGUMENTS)] * 2),
        (ToolFormat.LLAMA, '{"answer": 3}', '{"answer": 3}', []),
        (ToolFormat.LLAMA, f"Look: {CALL}", f"Look: {CALL}", []),
        (ToolFormat.MISTRAL, f"[TOOL_CALLS] [{CALL}, {CALL}]", "", [("look", ARGUMENTS)] * 2),
        (ToolFormat.MISTRAL, f"[{CALL}]", "", [("look", ARGUMENTS)]),
        (ToolFormat.MISTRAL, "[1, 2] is a list", "[1, 2] is a list", []),
        (ToolFormat.LIST, f"[{CALL}]", "", [("look", ARGUMENTS)]),
        (ToolFormat.ARGUMENTS, ARGUMENTS, "", [("look", ARGUMENTS)]),
    ],
)
def test_each_format(how: ToolFormat, text: str, said: str, calls: list[tuple[str, str]]) -> None:
    """Calls are found in each format, and what is none stays text to the letter."""
    assert read(how, [text]) == (said, calls)


@given(st.sampled_from(ToolFormat), st.lists(st.sampled_from(SCRAPS), max_size=12), st.data())
def test_any_cuts_give_the_same(how: ToolFormat, scraps: list[str], data: st.DataObject) -> None:
    """However the stream is cut, text and calls are those of the whole answer."""
    text = "".join(scraps)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=20).map(sorted))
    pieces = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
    assert read(how, pieces) == read(how, [text])
    assert read(how, list(text)) == read(how, [text])


@given(st.lists(st.sampled_from(SCRAPS), max_size=12))
def test_nothing_but_calls_is_lost(scraps: list[str]) -> None:
    """An answer without calls comes out as it is."""
    text = "".join(scraps)
    for how in (ToolFormat.HERMES, ToolFormat.LLAMA, ToolFormat.MISTRAL):
        said, calls = read(how, [text])
        assert calls or said == text


def test_arguments_stream() -> None:
    """The name and the arguments come as soon as they are there, not only when the call is complete."""
    calls = ToolCalls(ToolFormat.HERMES, NAMES)
    assert calls.push('<tool_call>{"name": "look", "arguments": {') == [Called(0, "look"), Argued(0, "{")]
    assert calls.push('"a": 1') == [Argued(0, '"a": 1')]


def test_a_call_is_valid_json() -> None:
    """Keys in another order make the same call."""
    said, calls = read(ToolFormat.HERMES, ['<tool_call>{"arguments": {"a": 1}, "name": "look"}</tool_call>'])
    assert (said, json.loads(calls[0][1])) == ("", {"a": 1})


@pytest.mark.parametrize(
    ("template", "how"),
    [
        ("{% if tools %}<tool_call>{% endif %}", ToolFormat.HERMES),
        ("{% if tools %}[TOOL_CALLS]{% endif %}", ToolFormat.MISTRAL),
        ("{% if tools %}<|python_tag|>{% endif %}", ToolFormat.LLAMA),
        ("{{ messages }}<tool_call>", None),
        ("{{ tools }}", None),
    ],
)
def test_the_template_tells_the_format(template: str, how: ToolFormat | None) -> None:
    """The format is that of the template; one without tools has none."""
    assert format_of(template) is how
