"""What the router checks of a replica's answers, and what it imports."""

import subprocess
import sys

import pytest

from asynckit.serve.messages import EngineState, Stepped, Token
from asynckit.serve.replica import RanksDisagree, check_same

STATE = EngineState(1, 0, 0.5, 0, 0, 0, 0, has_work=True, version=0)


def _stepped(token_id: int, logprob: float = -1.0) -> Stepped:
    return Stepped(1, (Token("r", 0, token_id, logprob, 0),), (), (), {}, STATE)


def test_ranks_must_sample_the_same_tokens() -> None:
    """Another token means that the ranks no longer compute the same; a last bit of a logprob does not."""
    check_same([_stepped(5), _stepped(5, -1.0000001)])
    with pytest.raises(RanksDisagree):
        check_same([_stepped(5), _stepped(6)])


def test_the_router_is_light() -> None:
    """Its process starts without the libraries that compute."""
    code = (
        "import sys, asynckit.serve.router\n"
        "print([name for name in ('torch', 'transformers', 'fastapi', 'tokenizers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
