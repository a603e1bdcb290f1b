"""How long the simulated engine's responses are."""

import zlib
from collections.abc import Callable
from pathlib import Path

from asynckit.engine.counter import uniform
from asynckit.engine.distributions import parse_distribution
from asynckit.engine.request import Request
from asynckit.engine.trace import read_trace

Lengths = Callable[[int, float], int]
"""Response tokens, the end-of-text token included, for (prompt tokens, uniform number in [0, 1))."""

_STREAM = 0x6C656E6774687300  # keeps the numbers of lengths apart from those of tokens


def parse_lengths(spec: str, *, where: str) -> Lengths:
    """Response lengths as ``spec`` describes them: a distribution (rounded, at least 1) or ``trace(PATH)``.

    Raises:
        ConfigError: it describes neither.
        InputError: the trace can't be used.
    """
    spec = spec.strip()
    if spec.startswith("trace(") and spec.endswith(")"):
        return read_trace(Path(spec[len("trace(") : -1])).response_tokens
    quantile = parse_distribution(spec, where=where)
    return lambda _, u: max(1, round(quantile(u)))


def length_shares(request: Request) -> list[float]:
    """The uniform number behind the length of each sample: of the seed, the prompt and the index alone."""
    stream = request.sampling.seed ^ _STREAM ^ _digest(request.prompt_ids)
    return [uniform(stream, index, 0) for index in range(request.n)]


def _digest(prompt_ids: tuple[int, ...]) -> int:
    """The same number for the same prompt in every process, which ``hash`` does not promise."""
    return zlib.crc32(b"".join(token.to_bytes(8, "little") for token in prompt_ids))
