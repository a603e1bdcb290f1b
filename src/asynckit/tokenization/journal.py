"""What is on the disk of an output that is being made, so that it can be killed at any moment.

::

    OUT/plan.json                 what is made of what; the folder is ours
    OUT/data-00000.*              shards, each written whole and renamed
    OUT/.work/parts/000017.part   a unit's tokens, written whole and renamed
    OUT/.work/shards/00000.json   the shard is complete; its parts are not needed any more
    OUT/manifest.json             everything is complete; .work goes

A part is worth as much as its bytes, so what counts as done is what is there: a unit is never half done, and
a file under a hidden name is nobody's.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from asynckit.disk import whole_file, writing
from asynckit.errors import AsynckitError, ConfigError, InputError, UsageError, WorkFailed
from asynckit.tokenization.outputs.manifest import MANIFEST

SCHEMA = "asynckit.tokenization-plan/1"
_PLAN = "plan.json"
_WORK = ".work"
_LOCK = "lock"  # in it
SKIPPED = "skipped.jsonl"
_OWN = (_PLAN, MANIFEST, _WORK, SKIPPED, "state.json", "dataset_info.json", "data-*", ".*.tmp")
_LOCK_SECONDS = 10.0  # a worker of a process that was killed ends within moments


class Journal:
    """An output folder while it is being made.

    Attributes:
        folder: the output.
        parts: folder of the units' parts.
        blocks: folder of what streams have given and nobody has used yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = folder / _WORK / "parts"
        self.blocks = folder / _WORK / "blocks"
        self._shards = folder / _WORK / "shards"

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path, plan: Mapping[str, Any], *, overwrite: bool) -> Iterator["Journal"]:
        """Begin an output, or go on with one that was begun with the same plan; held against other processes.

        An output that fails before any document of it is finished is as if it had never been begun.

        Args:
            folder: the output.
            plan: what is made of what.
            overwrite: whether an earlier output of another plan may be deleted.

        Raises:
            UsageError: something else is there, or another process writes it.
            ConfigError, InputError: it was begun with another plan.
        """
        refuse_foreign(folder)
        lock = _lock(folder)
        journal = cls(folder)
        try:
            if overwrite:
                journal.clear()
            elif before := read_plan(folder):
                refuse_changes(folder, before, plan)
            journal._begin(plan)
            try:
                yield journal
            except AsynckitError:
                journal._forget_if_empty()  # the mend may be another setting
                raise
        finally:
            if journal.complete or not (folder / _PLAN).is_file():
                shutil.rmtree(folder / _WORK, ignore_errors=True)
            lock.release()

    def _begin(self, plan: Mapping[str, Any]) -> None:
        shutil.rmtree(self.blocks, ignore_errors=True)
        with writing(self.folder):
            for each in (self.parts, self.blocks, self._shards):
                each.mkdir(parents=True, exist_ok=True)
            for hidden in (*self.folder.glob(".*.tmp"), *self.parts.glob(".*"), *self._shards.glob(".*")):
                hidden.unlink()
        _write_json(self.folder / _PLAN, plan)

    @property
    def complete(self) -> bool:
        """Whether the output is there."""
        return (self.folder / MANIFEST).is_file()

    def part(self, number: int) -> Path:
        """Where a unit's part is, or will be."""
        return self.parts / f"{number:08d}.part"

    @property
    def avoided(self) -> frozenset[str]:
        """Encoders that turned out to be wrong."""
        return frozenset(self._encoder().get("avoided", ()))

    def begin_encoder(self, name: str, avoid: frozenset[str]) -> None:
        """Take this encoder, named with its version, from now on; what another one has made is deleted."""
        now = {"name": name, "avoided": sorted(avoid)}
        if (before := self._encoder()) and before != now:
            self._forget_all()
        _write_json(self.folder / _WORK / "encoder.json", now)

    def _encoder(self) -> dict[str, Any]:
        path = self.folder / _WORK / "encoder.json"
        return json.loads(path.read_bytes()) if path.is_file() else {}

    def _forget_all(self) -> None:
        # What says that shards are complete goes before they do, so that it is true whenever this is killed.
        for folder in (self._shards, self.parts):
            shutil.rmtree(folder)
            folder.mkdir()
        for path in self.folder.glob("data-*"):
            path.unlink()

    def _forget_if_empty(self) -> None:
        """Let an output be begun with other settings if there is no document in what has been finished."""
        finished = any(self.parts.glob("*.part")) or any(shard["record"] for shard in self.shards().values())
        if finished or self.avoided:
            return
        with contextlib.suppress(WorkFailed):  # a disk that refuses is what the error is about
            self.clear()

    def commit(self, number: int, record: Mapping[str, Any], parts: list[Path]) -> None:
        """A shard's files are on the disk: remember what is known of it, and let its parts go."""
        _write_json(self._shards / f"{number:05d}.json", record)
        for path in parts:
            path.unlink(missing_ok=True)

    def shards(self) -> dict[int, dict[str, Any]]:
        """What is known of the shards that are complete, by number."""
        return {int(path.stem): json.loads(path.read_bytes()) for path in sorted(self._shards.glob("*.json"))}

    def clear(self) -> None:
        """Delete an earlier output; what marks the folder as ours goes last, so that this can be repeated."""
        try:
            for path in (each for name in _OWN[1:] for each in self.folder.glob(name)):
                if path.name == _WORK:
                    _empty(path)
                else:
                    path.unlink()
            (self.folder / _PLAN).unlink(missing_ok=True)
        except OSError as error:
            message = f"the earlier output cannot be deleted: {error.strerror or error}"
            raise WorkFailed(message, where=str(error.filename), mend="delete it yourself") from error


def _empty(work: Path) -> None:
    """Delete all but the lock, which is held."""
    for inner in work.iterdir():
        if inner.is_dir():
            shutil.rmtree(inner)
        elif inner.name != _LOCK:
            inner.unlink()


def _lock(folder: Path) -> FileLock:
    """The lock on an output, held.

    Raises:
        UsageError: another process keeps it.
        WorkFailed: the disk refuses.
    """
    lock = FileLock(folder / _WORK / _LOCK)
    while True:
        with writing(folder):
            (folder / _WORK).mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except FileNotFoundError:  # who held it has finished, and has taken the folder away
            continue
        except Timeout as error:
            raise UsageError(
                "another process is writing this output",
                where=str(folder),
                mend="wait for it, or choose another --out",
            ) from error
        return lock


def refuse_foreign(folder: Path) -> None:
    """Raise unless the folder is absent, empty, or an output of ours.

    Raises:
        UsageError: it is something else.
    """
    mend = "choose another --out"
    if folder.exists() and not folder.is_dir():
        raise UsageError("is not a folder", where=str(folder), mend=mend)
    if not folder.is_dir():
        return
    names = sorted(path.name for path in folder.iterdir())
    if foreign := [name for name in names if not any(fnmatchcase(name, own) for own in _OWN)]:
        raise UsageError(
            f"the folder holds {foreign[0]}, which tokenize does not write", where=str(folder), mend=mend
        )
    # The plan comes first of what is not hidden; killed before that, there is none yet.
    if any(not name.startswith(".") for name in names) and not _may_be_ours(folder / _PLAN):
        raise UsageError("the folder has no plan.json of tokenize", where=str(folder), mend=mend)


def _may_be_ours(plan: Path) -> bool:
    """Whether the file is a plan of any version, or too damaged to be anybody's."""
    if not plan.is_file():
        return False
    try:
        found = json.loads(plan.read_bytes())
    except (OSError, ValueError):
        return True
    return isinstance(found, dict) and str(found.get("schema")).startswith(SCHEMA.partition("/")[0])


def read_plan(folder: Path) -> dict[str, Any] | None:
    """The plan that an output was begun with; None if there is none.

    Raises:
        UsageError: the file is damaged, or of another version.
    """
    path = folder / _PLAN
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the plan cannot be read: {error}", where=str(folder / _PLAN), mend="use --overwrite"
        ) from error
    if found.get("schema") != SCHEMA:
        raise UsageError(
            "the output was begun by another version",
            where=str(folder / _PLAN),
            mend="use --overwrite, or that version",
        )
    return found


def refuse_changes(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise if an output was begun with another plan.

    A run that stopped at a broken record may go on without such records.

    Raises:
        ConfigError: the settings or the tokenizer differ.
        InputError: the inputs do.
    """
    mend = "put it back as it was, choose another --out, or begin anew with --overwrite"
    options, then = now["options"], before["options"]
    if then.get("on_error") == "stop":  # what was finished under it had no errors
        then = {**then, "on_error": options.get("on_error")}
    if changed := sorted(name for name in {*options, *then} if options.get(name) != then.get(name)):
        shown = ", ".join(
            f"tokenization.{name} was {then.get(name)!r} and is {options.get(name)!r}" for name in changed
        )
        raise ConfigError(f"the output was begun with other settings: {shown}", where=str(folder), mend=mend)
    if before["tokenizer"] != now["tokenizer"]:
        was, is_ = (
            f"{each['name']} ({each['digest'][:12]})" for each in (before["tokenizer"], now["tokenizer"])
        )
        message = f"the output was begun with another tokenizer: {was}, not {is_}"
        raise ConfigError(message, where=str(folder), mend=mend)
    for was, is_ in zip(before["inputs"], now["inputs"], strict=False):
        if was != is_:
            same = was["name"] == is_["name"]
            message = (
                "the input has changed since the output was begun"
                if same
                else f"the output was begun with {was['name']} here"
            )
            raise InputError(message, where=is_["name"], mend=mend)
    if len(before["inputs"]) != len(now["inputs"]):
        counts = f"{len(before['inputs'])} inputs, and now there are {len(now['inputs'])}"
        message = f"the output was begun with {counts}"
        raise InputError(message, where=str(folder), mend=mend)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with whole_file(path) as file:
        file.write(json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n")
