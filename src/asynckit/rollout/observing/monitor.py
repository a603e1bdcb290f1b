"""What a run leaves behind about itself: metrics while it goes on, a trace if wanted, a report at its end."""

import asyncio
import json
import logging
import time
from collections.abc import Iterable

from asynckit.rollout.group import FinishedGroup
from asynckit.rollout.job import Job
from asynckit.rollout.observing.loggers import open_backends
from asynckit.rollout.observing.metrics_log import MetricsLog
from asynckit.rollout.observing.report import write_report
from asynckit.rollout.observing.snapshot import Snapshot
from asynckit.rollout.run_directory import RunDirectory
from asynckit.trace_events import TraceWriter

TRACE = "trace.json"

log = logging.getLogger(__name__)


class Monitor:
    """The observers of one run.

    Args:
        job: the run; its folder has a ``config.json``.

    Attributes:
        trace: the timeline; None where none is wanted.

    Raises:
        DependencyError: a logger can't work.
        WorkFailed: the disk refuses.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        config = json.loads(RunDirectory(job.folder).config_path.read_bytes())["config"]
        self._metrics = MetricsLog(job.folder, open_backends(job.rollout.loggers, job.folder, config))
        self.trace = TraceWriter(job.folder / TRACE) if job.rollout.trace else None

    async def note(self, now: Snapshot) -> None:
        """Write down where the run stands."""
        await asyncio.to_thread(self._metrics.append, now)
        if self.trace:
            for name in ("in_flight", "queued", "learner_waiting", "version"):
                self.trace.counter(name, time.time(), getattr(now, name))

    def draw(self, groups: Iterable[FinishedGroup]) -> None:
        """Draw when the samples of finished groups were generated; a simulation's times are not the run's."""
        if not self.trace or self._job.simulated.clock == "virtual":
            return
        for sample in (each for group in groups for each in group.trajectories):
            start, end = sample.timing.start, sample.timing.end
            if start is not None and end is not None:
                tokens = len(sample.response_ids)
                number = self.trace.begin(
                    "samples/generating", "sample", self._job.began + start, uid=sample.uid, tokens=tokens
                )
                self.trace.end("samples/generating", "sample", number, self._job.began + end)

    async def close(self) -> None:
        """Close the files and write the report; the run's records are worth more than these."""
        await asyncio.to_thread(self._metrics.close)
        if self.trace:
            self.trace.close()
        try:
            await asyncio.to_thread(write_report, self._job.folder)
        except Exception:  # whatever a page about the run can't be made of
            log.exception("there is no report")
