"""One side of a comparison: its cases, of which one at a time is prepared, warm, and timed round by round."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from asynckit.bench.cases.case import Case, Prepared, count_gpus, reason_against
from asynckit.bench.clocks import Work
from asynckit.bench.config import BenchConfig
from asynckit.bench.side_messages import Opened
from asynckit.bench.timing import check_settings, measure, parts
from asynckit.errors import AsynckitError, WorkFailed
from asynckit.user_code import describe

if TYPE_CHECKING:
    from asynckit.bench.devices import Device

ROUND_SECONDS = 0.02  # of repetitions in a round: short, so that both sides meet the same machine
_NO_TIME = 1e-9  # seconds


class Workbench:
    """The side in this process.

    Args:
        name: as it is called in the report.
        cases: what can be timed.
        device: where.
        config: how.
        close: frees what the cases share.

    Raises:
        ConfigError: nothing can be measured with the settings.
    """

    def __init__(
        self,
        name: str,
        cases: Sequence[Case],
        device: "Device",
        config: BenchConfig,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        check_settings(config)
        self.name = name
        self.device: str = device.kind
        self._cases = {case.key: case for case in cases}
        self._on = device
        self._config = config
        self._close = close
        self._prepared: Prepared | None = None
        self._take: Callable[[], float] = _nothing_open

    @property
    def keys(self) -> list[str]:
        """Of its cases."""
        return list(self._cases)

    def open(self, key: str) -> Opened:
        """Prepare a case, check it, warm it up; whatever it raises is a reason not to time it."""
        self._put_away()
        case = self._cases[key]
        reason = reason_against(case, self.device, count_gpus(self.device))
        if reason:
            return Opened(reason=reason)
        try:
            return self._prepare(case)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises, the others are timed
            return Opened(reason=f"failed: {_told(error)}", failed=True)

    def seconds(self) -> float:
        """Time one round: the median of as many repetitions as fit.

        Raises:
            WorkFailed: the case raised something.
        """
        try:
            return self._round()
        except (Exception, SystemExit) as error:
            raise WorkFailed(f"failed in a later round: {_told(error)}") from error

    def close(self) -> None:
        """Free what the cases hold."""
        self._put_away()
        self._close()

    def _prepare(self, case: Case) -> Opened:
        prepared = self._prepared = case.make(self.device)
        config = replace(self._config, max_seconds=_NO_TIME)  # warm-up and checks are what counts here
        measured = measure(
            prepared.function,
            setup=prepared.setup,
            device=self._on,
            clock=case.clock or None,
            cache=case.cache or None,
            config=config,
            name=case.key,
        )
        timing = measured.timing
        running, new_watch = parts(self._on, Work(prepared.function, prepared.setup), timing.clock)
        watch, cold = new_watch(), timing.cache == "cold"
        self._take = lambda: watch.seconds(running.ready(timing.calls), cold=cold) / timing.calls
        self._take()  # the first teaches a watch how long launching takes
        return Opened(doubts=measured.doubts)

    def _round(self) -> float:
        end = self._on.now() + ROUND_SECONDS * 1e9
        taken = [self._take()]
        while self._on.now() < end:
            taken.append(self._take())
        return float(np.median(taken))

    def _put_away(self) -> None:
        prepared, self._prepared, self._take = self._prepared, None, _nothing_open
        if prepared:
            prepared.close()


def _nothing_open() -> float:
    raise AssertionError("no case is open")


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, AsynckitError) else describe(error)
