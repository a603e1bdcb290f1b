"""``--against``: what the partner of a comparison is, and how both sides are set up."""

import re
from enum import Enum, auto
from pathlib import Path

import msgspec

from asynckit.bench.comparisons import ComparisonReport
from asynckit.bench.config import BenchConfig
from asynckit.bench.pairs import Told, compare_sides
from asynckit.bench.remote_side import RemoteSide
from asynckit.bench.revisions import checked_out, find_commit, find_root, names
from asynckit.bench.side_messages import Job
from asynckit.bench.workbench import Workbench
from asynckit.errors import UsageError
from asynckit.near_miss import did_you_mean
from asynckit.user_code import stdout_to_stderr

FLAG = "--against"
_FUNCTION = re.compile(r"[\w.]+:[\w.]+(@[\w.:]+)?")
_FILES = (".yaml", ".yml")
_ABBREVIATED = 12


class Partner(Enum):
    """What the value of ``--against`` names."""

    REVISION = auto()
    FUNCTION = auto()
    CONFIG = auto()


def kind_of_partner(value: str) -> Partner:
    """Whether it names a function (``module:function``), a configuration (``.yaml``), or a revision."""
    if _FUNCTION.fullmatch(value):
        return Partner.FUNCTION
    return Partner.CONFIG if value.lower().endswith(_FILES) else Partner.REVISION


def compare_functions(
    before: str, patterns: tuple[str, ...], config: BenchConfig, on_round: Told = lambda _key, _rounds: None
) -> ComparisonReport:
    """Compare two functions, both in this process.

    Args:
        before: ``module:function`` or ``module:function@hook``, what is compared with.
        patterns: of ``--case``: the function that is judged, and nothing else.
        config: how.
        on_round: told the key of the case and the rounds so far, after each.

    Raises:
        UsageError: not one function is to be judged.
        InputError: one of them cannot be imported, or can't be timed.
    """
    from asynckit.bench.cases.functions import function_case
    from asynckit.bench.devices import choose_device

    if len(patterns) != 1 or kind_of_partner(patterns[0]) is not Partner.FUNCTION:
        raise UsageError(
            f"{before} is a function, and is compared with one other",
            where=FLAG,
            mend="name it: --case module:function",
        )
    device = choose_device(config.device)
    sides = [Workbench(name, [function_case(name)], device, config) for name in (before, patterns[0])]
    with stdout_to_stderr():  # stdout is for the command's own data
        try:
            return compare_sides(sides[0], sides[1], config, on_round, by_place=True)
        finally:
            for side in sides:
                side.close()


def compare_configurations(
    before: Job, after: Job, on_round: Told = lambda _key, _rounds: None
) -> ComparisonReport:
    """Compare the same cases in two configurations, each in a process of its own.

    Args:
        before: what is compared with.
        after: what is judged: the same patterns; its rounds, threshold, confidence and seed count.
        on_round: told the key of the case and the rounds so far, after each.

    Raises:
        AsynckitError: as :class:`asynckit.bench.remote_side.RemoteSide`.
    """
    return _in_processes(before, after, on_round, by_place=True)


def compare_revision(
    revision: str, job: Job, folder: Path, on_round: Told = lambda _key, _rounds: None
) -> ComparisonReport:
    """Compare the files of a repository as they are now with those of a revision.

    Args:
        revision: branch, tag or commit; checked out beside the repository meanwhile.
        job: what is measured on both sides.
        folder: where the person is, in the repository.
        on_round: told the key of the case and the rounds so far, after each.

    Raises:
        UsageError: this is no repository, or it has no such revision.
        WorkFailed: it cannot be checked out.
        AsynckitError: as :class:`asynckit.bench.remote_side.RemoteSide`.
    """
    here = folder.resolve()
    root = find_root(here).resolve()
    commit = find_commit(root, revision)
    if commit is None:
        mend = did_you_mean(revision, names(root)) or "name a branch, tag or commit"
        raise UsageError(f"{root} has no revision {revision!r}", where=FLAG, mend=mend)
    name = revision if commit.startswith(revision) else f"{revision} ({commit[:_ABBREVIATED]})"
    with checked_out(root, commit) as tree:
        there = tree / here.relative_to(root)
        before = _placed(job, name, tree, there if there.is_dir() else tree)
        after = _placed(job, "the files as they are", root, here)
        return _in_processes(before, after, on_round, by_place=False)


def _in_processes(before: Job, after: Job, on_round: Told, *, by_place: bool) -> ComparisonReport:
    with RemoteSide(before) as one, RemoteSide(after) as other:
        return compare_sides(one, other, after.bench, on_round, by_place=by_place)


def _placed(job: Job, name: str, root: Path, folder: Path) -> Job:
    return msgspec.structs.replace(job, name=name, root=str(root), folder=str(folder))
