"""A calculator as an environment: it answers every ``<tool_call>`` of the assistant with a number."""

import ast
import json
import operator
import re
from collections.abc import Callable

CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
LARGEST, LONGEST = 1e15, 200


class Calculator:
    """Answers until the assistant says something without a call."""

    def step(self, text: str) -> str | None:
        """The results of the calls in ``text``, one per line; None when there is no call in it."""
        calls = CALL.findall(text)
        return "\n".join(answer(call.strip()) for call in calls) if calls else None


def answer(call: str) -> str:
    """The result of one call, or what is wrong with it, for the model to read.

    A call is an expression, or JSON as Qwen and Hermes models write it:
    ``{"name": "calculator", "arguments": {"expression": "12*7"}}``.
    """
    try:
        expression = json.loads(call)["arguments"]["expression"] if call.startswith("{") else call
        if len(expression) > LONGEST:
            return f"error: an expression has at most {LONGEST} characters"
        number = value(ast.parse(expression, mode="eval").body)
    except (ValueError, LookupError, TypeError, SyntaxError, ArithmeticError, RecursionError) as error:
        return f"error: {error}"
    return str(number) if isinstance(number, int) else f"{number:.12g}"


def value(node: ast.AST) -> float:
    """The value of an expression of numbers, + - * / // % ** and brackets; nothing in it is large.

    Raises:
        ValueError: it has something else in it, or a number that is too large.
    """
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return within(node.value)
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](value(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = value(node.left), value(node.right)
        if isinstance(node.op, ast.Pow):
            left = float(left)  # floats overflow at once, where integers would grow
        return within(OPERATORS[type(node.op)](left, right))
    raise ValueError("only numbers, + - * / // % ** and brackets")


def within(number: object) -> float:
    """The number, where it is a real one of bearable size."""
    if not isinstance(number, int | float) or not abs(number) <= LARGEST:
        raise ValueError(f"numbers go up to {LARGEST:g}")
    return int(number) if number == int(number) else number
