"""A grammar's first compilation, in a process of its own that may take little time and memory.

llguidance bounds most of what a grammar can cost, but not all: intersecting patterns (``allOf``) and large
``multipleOf`` can take seconds or gigabytes, and a failed allocation in it ends the process. So a grammar
that is seen for the first time is compiled here before the engine does it. This file is run as a script: it
imports nothing of asynckit.
"""

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llguidance import LLParserLimits

CPU_SECONDS = 1
NOTHING_FOLLOWS = "NoExtension"  # how llguidance's error begins where no text can follow
MEMORY_BYTES = 512 * 2**20
_WALL_SECONDS = 20.0  # for a machine that is busy with other things


def trial(grammar: str) -> str:
    """Compile a grammar under limits; returns why it can't be used, or nothing. Takes about 0.07 s."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", __file__],
            input=grammar,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"compiling it takes more than {_WALL_SECONDS:g} s"
    if done.returncode:
        return f"compiling it takes more than {CPU_SECONDS} s of CPU or {MEMORY_BYTES // 2**20} MiB of memory"
    return "no text matches it" if done.stdout.startswith(NOTHING_FOLLOWS) else done.stdout


def parser_limits() -> "LLParserLimits":
    """What llguidance may build, for compiling and for each step."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=50_000,
        step_max_items=50_000,
        max_lexer_states=20_000,  # at 1 to 2 kB each, and as many for each grammar that is kept
        max_grammar_size=200_000,
        verbose_errors=False,  # errors go to whoever sent the request
    )


def main() -> None:
    """Compile what comes in on stdin and compute the first mask; write the error, if any, to stdout."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    from llguidance import LLMatcher, LLTokenizer

    grammar = sys.stdin.buffer.read().decode()
    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0, limits=parser_limits())
    if not matcher.is_error():
        matcher.compute_bitmask()
    sys.stdout.buffer.write(matcher.get_error().encode(errors="replace"))


if __name__ == "__main__":
    main()
