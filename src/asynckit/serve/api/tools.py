"""Which tools a chat offers, which call it forces, and how the answer is read; see tool_calls.py."""

import json
from dataclasses import dataclass
from typing import Any

from asynckit.serve.api.errors import ApiError
from asynckit.serve.api.schemas.chat import ChatRequest, ChosenTool, FunctionDefinition, Tool
from asynckit.serve.api.tool_calls import ToolCalls, ToolFormat, format_of

_ANYTHING = {"type": "object"}


@dataclass(frozen=True)
class ToolUse:
    """What a request's tools come to.

    Attributes:
        shown: tools as the template gets them; None where the model is not to know of any.
        names: of the functions that may be called; with a forced one, that one.
        how: calls are written; None where none is looked for.
        schema: what a forced call must match, as JSON text.
    """

    shown: tuple[dict[str, Any], ...] | None = None
    names: tuple[str, ...] = ()
    how: ToolFormat | None = None
    schema: str | None = None

    def reader(self) -> ToolCalls | None:
        """What reads one answer."""
        return ToolCalls(self.how, self.names) if self.how else None


def tool_use(body: ChatRequest, tool_template: str) -> ToolUse:
    """What a request's tools come to, with the model's template.

    Raises:
        ApiError: the choice is none of the tools, or the model can't be told about tools.
    """
    choice = body.tool_choice or "auto"
    if not body.tools:
        if choice not in ("none", "auto"):
            raise ApiError(400, "tool_choice needs tools", param="tool_choice")
        return ToolUse()
    if choice == "none":
        return ToolUse()
    functions = _functions(body.tools)
    shown = tuple(tool.model_dump(exclude_none=True) for tool in body.tools)
    if isinstance(choice, ChosenTool):
        return _named(choice.function.name, functions, shown)
    if choice == "required":
        return _required(functions, shown, several=body.parallel_tool_calls is not False)
    how = format_of(tool_template)
    if how is None:
        raise ApiError(400, _why_no_tools(tool_template), param="tools", code="tools_unsupported")
    return ToolUse(shown, tuple(functions), how)


def _functions(tools: list[Tool]) -> dict[str, FunctionDefinition]:
    functions = {tool.function.name: tool.function for tool in tools}
    if len(functions) < len(tools):
        raise ApiError(400, "two tools have the same name", param="tools")
    return functions


def _named(name: str, functions: dict[str, FunctionDefinition], shown: tuple[dict[str, Any], ...]) -> ToolUse:
    if name not in functions:
        raise ApiError(400, f"tool_choice: there is no tool {name!r}", param="tool_choice")
    schema = json.dumps(functions[name].parameters or _ANYTHING, ensure_ascii=False)
    return ToolUse(shown, (name,), ToolFormat.ARGUMENTS, schema)


def _required(
    functions: dict[str, FunctionDefinition], shown: tuple[dict[str, Any], ...], *, several: bool
) -> ToolUse:
    definitions: dict[str, Any] = {}
    calls = [_call_schema(function, definitions) for function in functions.values()]
    schema: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"anyOf": calls}}
    if not several:
        schema["maxItems"] = 1
    if definitions:
        schema["$defs"] = definitions
    return ToolUse(shown, tuple(functions), ToolFormat.LIST, json.dumps(schema, ensure_ascii=False))


def _call_schema(function: FunctionDefinition, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a call; its own definitions move to the root, where its references look for them."""
    parameters = dict(function.parameters or _ANYTHING)
    for name, definition in parameters.pop("$defs", {}).items():
        if definitions.setdefault(name, definition) != definition:
            raise ApiError(400, f"two tools define {name!r} differently in their $defs", param="tools")
    return {
        "type": "object",
        "properties": {"name": {"const": function.name}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _why_no_tools(template: str) -> str:
    if "tools" not in template:
        return "this model's chat template has no place for tools; tool_choice 'required' and named ones work"
    return "how this model writes tool calls is not known; tool_choice 'required' and named ones work"
