"""Two sides that take turns, round by round, until :mod:`asynckit.bench.compare` leaves nothing open."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from asynckit.bench.compare import confidence_of_look, is_settled, looks, ratio_of_rounds
from asynckit.bench.comparisons import (
    Comparison,
    ComparisonReport,
    judged,
    nothing_in_common,
    unjudged,
)
from asynckit.bench.config import BenchConfig
from asynckit.bench.side_messages import Opened
from asynckit.bench.statistics import Interval
from asynckit.errors import UsageError, WorkFailed

Told = Callable[[str, int], None]


class Side(Protocol):
    """What a comparison needs of either side."""

    @property
    def name(self) -> str:
        """As it is called in the report."""

    @property
    def keys(self) -> Sequence[str]:
        """Of its cases."""

    @property
    def device(self) -> str:
        """``cuda`` or ``cpu``."""

    def open(self, key: str) -> Opened:
        """Prepare a case, close the one before, and warm up."""

    def seconds(self) -> float:
        """Time one round of the open case: seconds per call."""

    def close(self) -> None:
        """Free what it holds."""


def compare_sides(
    before: Side,
    after: Side,
    config: BenchConfig,
    on_round: Told = lambda _key, _rounds: None,
    *,
    by_place: bool = False,
) -> ComparisonReport:
    """Compare the cases that both sides have.

    Args:
        before: what is compared with.
        after: what is judged.
        config: rounds of the first look, threshold, confidence and seed.
        on_round: told the key of the case and the rounds so far, after each.
        by_place: where both have as many cases, the first of one side is compared with the first of the
            other, and so on, whatever their names: two functions, or the same cases in two dtypes.

    Raises:
        UsageError: they run on different devices, or have no case in common.
    """
    if before.device != after.device:
        raise UsageError(
            f"{before.name} runs on {before.device}, and {after.name} on {after.device}",
            where="--against",
            mend="compare on one device",
        )
    pairs = list(_pairs(before, after, by_place))
    if not pairs:
        raise nothing_in_common(before.name, after.keys, where="--against")
    partners = dict(pairs).values()
    return ComparisonReport(
        before=before.name,
        after=after.name,
        device=after.device,
        threshold=config.threshold,
        confidence=config.confidence,
        comparisons=tuple(
            compare_case(before, after, key, partner, config, on_round) for key, partner in pairs
        ),
        only_before=tuple(key for key in before.keys if key not in partners),
        only_after=tuple(key for key in after.keys if key not in dict(pairs)),
    )


def _pairs(before: Side, after: Side, by_place: bool) -> Iterator[tuple[str, str]]:
    """Keys of the side after, and what each is compared with."""
    if by_place and len(before.keys) == len(after.keys):
        yield from zip(after.keys, before.keys, strict=True)
    else:
        theirs = set(before.keys)
        yield from ((key, key) for key in after.keys if key in theirs)


def compare_case(
    before: Side, after: Side, key: str, partner: str, config: BenchConfig, on_round: Told
) -> Comparison:
    """Compare one case.

    Args:
        before: what is compared with.
        after: what is judged.
        key: of the case, on the side after.
        partner: likewise, on the side before.
        config: rounds of the first look, threshold, confidence and seed.
        on_round: told the key of the case and the rounds so far, after each.
    """
    doubts: list[str] = []
    try:
        for side, case in ((before, partner), (after, key)):
            opened = side.open(case)
            if opened.reason:
                reason = f"{side.name}: {opened.reason}"
                return unjudged(key, reason, partner, failed=opened.failed)
            doubts += (f"{side.name}: {doubt}" for doubt in opened.doubts)
        ratio, seconds = _take_turns((before, after), key, config, on_round)
    except WorkFailed as error:
        return unjudged(key, str(error), partner, failed=True)
    return judged(
        key,
        ratio,
        *seconds,
        config.threshold,
        rounds=len(seconds[0]),
        doubts=list(dict.fromkeys(doubts)),
        partner=partner,
    )


def _take_turns(
    sides: tuple[Side, Side], key: str, config: BenchConfig, on_round: Told
) -> tuple[Interval, tuple[list[float], list[float]]]:
    """Measure until nothing is left open, or all looks are spent."""
    seconds: tuple[list[float], list[float]] = ([], [])
    confidence = confidence_of_look(config.confidence)
    for look in looks(config.rounds):
        while len(seconds[0]) < look:
            order = (0, 1) if len(seconds[0]) % 2 == 0 else (1, 0)
            for turn in order:
                seconds[turn].append(_round(sides[turn]))
            on_round(key, len(seconds[0]))
        before, after = map(np.array, seconds)
        ratio = ratio_of_rounds(before, after, confidence, config.seed)
        if is_settled(ratio, config.threshold):
            break
    return ratio, seconds


def _round(side: Side) -> float:
    took = side.seconds()
    if not 0 < took < math.inf:
        raise WorkFailed(f"took {took} s: the clock can't tell", where=side.name, mend="choose a longer case")
    return took
