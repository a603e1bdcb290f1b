"""Distributions by name: ``constant(X)``, ``uniform(LOW,HIGH)``, ``lognormal(P50,P99)``."""

import math
import re
from collections.abc import Callable
from statistics import NormalDist

from asynckit.errors import ConfigError

Quantile = Callable[[float], float]
"""The number below which a share ``u`` in [0, 1) of a distribution lies; of a uniform ``u``, a draw."""

_LARGEST = 1e9
_SMALLEST_SHARE = 2.0**-54  # below any that a 53-bit random number can be, and still above 0
_PARAMETERS = {"constant": 1, "uniform": 2, "lognormal": 2}


def parse_distribution(spec: str, *, where: str) -> Quantile:
    """The quantile function of the distribution that ``spec`` describes.

    Args:
        spec: such as ``lognormal(64,512)``: half of the draws are at most 64, 99 % at most 512.
        where: the setting, for the error.

    Raises:
        ConfigError: the text describes no distribution, or one with impossible parameters.
    """
    match = re.fullmatch(r"\s*(\w+)\s*\((.*)\)\s*", spec)
    name, values = (match[1], _numbers(match[2])) if match else ("", None)
    if values is None or _PARAMETERS.get(name) != len(values):
        mend = "write constant(X), uniform(LOW,HIGH) or lognormal(P50,P99)"
        raise ConfigError(f"{spec!r} is no distribution", where=where, mend=mend)
    least = 1 / _LARGEST if name == "lognormal" else 0.0
    if not least <= values[0] <= values[-1] <= _LARGEST:
        mend = f"give numbers from {least:g} to {_LARGEST:g}, the smaller one first"
        raise ConfigError(f"{spec!r} has impossible parameters", where=where, mend=mend)
    return _quantile(name, values[0], values[-1])


def _numbers(text: str) -> list[float] | None:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return None


def _quantile(name: str, first: float, last: float) -> Quantile:
    if name != "lognormal":  # a constant is uniform between itself and itself
        return lambda u: first + u * (last - first)
    normal = NormalDist()
    mean, sigma = math.log(first), math.log(last / first) / normal.inv_cdf(0.99)
    return lambda u: math.exp(mean + sigma * normal.inv_cdf(max(u, _SMALLEST_SHARE)))
