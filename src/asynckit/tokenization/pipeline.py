"""From units to shards: hand out, commit, put together.

::

    items ──units──> workers ──parts──> assembly ──shards──> workers ──files──> journal
                        └── notes ──> progress, totals

The main process decides and commits; workers read, encode and write. What is written depends on the inputs,
the tokenizer and the settings alone: units are numbered before anybody works on them, and put together by
their numbers. So a run that was killed goes on where it was, with any number of workers.
"""

import logging
from collections import Counter, deque
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import msgspec

from asynckit.disk import writing
from asynckit.errors import InputError, WorkFailed
from asynckit.tokenization.inputs.places import shown_name
from asynckit.tokenization.journal import Journal
from asynckit.tokenization.outputs.manifest import ShardRecord
from asynckit.tokenization.outputs.parts import DamagedPart, read_part
from asynckit.tokenization.outputs.shards import ShardSettings
from asynckit.tokenization.pool import Outcome
from asynckit.tokenization.progress import TokenizingProgress
from asynckit.tokenization.records import Source
from asynckit.tokenization.schedule import Assembly, Finished, Item, Ready
from asynckit.tokenization.streams import Items
from asynckit.tokenization.tasks import AssembleShard, TokenizeUnit, UnitNote

_logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_MOST_ATTEMPTS = 3


class Pool(Protocol):
    """Workers, wherever they are."""

    @property
    def idle(self) -> int:
        """How many workers have nothing to do."""

    @property
    def busy(self) -> int:
        """How many tasks are being done."""

    def give(self, task: Any) -> None:
        """Begin a task; a worker must be idle."""

    def wait(self, seconds: float) -> list[Outcome]:
        """The tasks that have ended, at most this much later."""

    def close(self) -> None:
        """End all workers, whatever they are doing."""


class Pipeline:
    """One output on its way.

    Args:
        sources: the inputs.
        items: their units.
        pool: who works.
        journal: what is on the disk.
        settings: of the shards.
        progress: what the person sees.
    """

    def __init__(
        self,
        sources: tuple[Source, ...],
        items: Items,
        pool: Pool,
        journal: Journal,
        settings: ShardSettings,
        progress: TokenizingProgress,
    ) -> None:
        self._sources = sources
        self._items = items
        self._pool = pool
        self._journal = journal
        self._settings = settings
        self._progress = progress
        self._assembly = Assembly()
        self._waiting: deque[TokenizeUnit | AssembleShard] = deque()
        self._attempts: Counter[TokenizeUnit | AssembleShard] = Counter()
        self._notes: dict[int, list[UnitNote]] = {}  # of the shards that are not committed yet
        self._committed = {number: _Committed(record) for number, record in journal.shards().items()}
        for number, shard in self._committed.items():
            self._assembly.skip(number, shard.documents, shard.tokens)

    def run(self) -> None:
        """Make every shard that is not there yet.

        Raises:
            AsynckitError: an input is broken, the disk refuses, or workers keep dying; what was finished
                is kept.
        """
        while True:
            self._hand_out()
            if not self._pool.busy and not self._waiting and self._items.exhausted:
                return
            for outcome in self._pool.wait(_LOOK_SECONDS if self._pool.busy else 0.0):
                self._settle(outcome)
            self._progress.show()

    def _hand_out(self) -> None:
        while self._pool.idle:
            task = self._waiting.popleft() if self._waiting else self._next_unit()
            if task is None:
                return
            self._pool.give(task)

    def _next_unit(self) -> TokenizeUnit | None:
        """The next unit that has no part yet; None if there is none now."""
        while item := self._items.take(0.0 if self._pool.busy else _LOOK_SECONDS):
            self._assembly.expect(item)
            task = TokenizeUnit(item, self._journal.part(item.number))
            if not self._is_done(item, task):
                return task
        if self._items.exhausted:
            self._assembly.end()
            self._put_together()
        return self._waiting.popleft() if self._waiting else None  # type: ignore[return-value]

    def _is_done(self, item: Item, task: TokenizeUnit) -> bool:
        """Whether a unit has been done in an earlier attempt; its bytes must be the same then."""
        if item.shard in self._committed:
            note = self._committed[item.shard].note(item.number)
        elif found := _whole_note(task.path):
            note = found
            self._finish(item, task, note)
        else:
            return False
        self._progress.skip(item.weight)
        if item.block:
            item.block.unlink()
            if item.digest != note.digest:
                place = f"bytes {item.unit.start:,} to {item.unit.end:,}"
                raise InputError(
                    f"{place} are others than when the output was begun",
                    where=shown_name(self._sources[item.unit.source]),
                    mend="give the same input again, or begin anew with --overwrite",
                )
        return True

    def _settle(self, outcome: Outcome) -> None:
        task = outcome.task
        if outcome.error:
            raise outcome.error
        if outcome.died:
            self._attempts[task] += 1
            if self._attempts[task] == _MOST_ATTEMPTS:
                raise self._died(task)
            self._waiting.appendleft(task)
        elif isinstance(task, TokenizeUnit):
            if task.item.block:
                task.item.block.unlink(missing_ok=True)
            self._finish(task.item, task, outcome.answer)
            self._progress.add(task.item.weight, outcome.answer.tokens)
        else:
            self._commit(task, outcome.answer)

    def _finish(self, item: Item, task: TokenizeUnit, note: UnitNote) -> None:
        self._notes.setdefault(item.shard, []).append(note)
        self._assembly.add(Finished(item, task.path, note.documents, note.tokens))
        self._put_together()

    def _put_together(self) -> None:
        for ready in self._assembly.ready():
            if any(each.documents for each in ready.parts):
                self._waiting.append(self._assemble(ready))
            else:  # readers cannot map files without bytes
                self._keep(ready.number, None, [each.path for each in ready.parts])

    def _assemble(self, ready: Ready) -> AssembleShard:
        return AssembleShard(
            ready.number,
            tuple(each.path for each in ready.parts),
            self._journal.folder,
            self._settings,
            ready.first_document,
            ready.first_token,
        )

    def _commit(self, task: AssembleShard, record: ShardRecord) -> None:
        self._keep(task.number, record, list(task.parts))

    def _keep(self, number: int, record: ShardRecord | None, parts: list[Path]) -> None:
        notes = sorted(self._notes.pop(number), key=lambda note: note.number)
        document = {"record": msgspec.to_builtins(record), "notes": [asdict(note) for note in notes]}
        self._journal.commit(number, document, parts)

    def _died(self, task: TokenizeUnit | AssembleShard) -> WorkFailed:
        if isinstance(task, TokenizeUnit):
            unit = task.item.unit
            where = f"{shown_name(self._sources[unit.source])}, {unit.start:,} to {unit.end:,}"
        else:
            where = f"shard {task.number}"
        return WorkFailed(
            f"{_MOST_ATTEMPTS} worker processes died of it",
            where=where,
            mend="the machine may lack memory: use fewer --workers; then run the same command again",
        )


def _whole_note(path: Path) -> UnitNote | None:
    """The note of a part; None where there is none, or a power cut has torn it."""
    if not path.is_file():
        return None
    try:
        return UnitNote(**read_part(path).note)
    except DamagedPart as error:
        _logger.warning("%s; it is done again", error)
        with writing(path):
            path.unlink()
        return None


class _Committed:
    """What the journal says of a shard."""

    def __init__(self, record: dict[str, Any]) -> None:
        self._notes = {note["number"]: UnitNote(**note) for note in record["notes"]}
        self.documents = sum(note.documents for note in self._notes.values())
        self.tokens = sum(note.tokens for note in self._notes.values())

    def note(self, number: int) -> UnitNote:
        return self._notes[number]
