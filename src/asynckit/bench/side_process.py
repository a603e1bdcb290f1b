"""The process of one side of a comparison: ``python -m asynckit.bench.side_process``.

Both sides are measured by the same code, that of the asynckit which compares. Where the code that is measured
is itself an asynckit, of another revision, the modules that measure are imported first and keep hold of each
other; then their names are forgotten, and whatever is imported from there on comes from the revision.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from asynckit import errors
from asynckit.bench.cases.case import Case
from asynckit.bench.cases.functions import function_case, names_function
from asynckit.bench.devices import Device, choose_device
from asynckit.bench.side_messages import Failed, Job, Open, Ready, Reply, Request, Round, Took
from asynckit.bench.workbench import Workbench
from asynckit.errors import DependencyError, InputError, UsageError
from asynckit.parent import die_with_parent
from asynckit.user_code import describe

_OWN = "asynckit"


def main() -> None:
    """Serve until the other end of stdin is closed; what others print goes to stderr."""
    die_with_parent()
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    with requests, replies:
        serve(requests, replies)


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests line by line until there are no more."""
    bench: Workbench | None = None
    try:
        for line in requests:
            try:
                if bench is None:
                    bench = set_up(msgspec.json.decode(line, type=Job))
                    reply: Reply = Ready(tuple(bench.keys), bench.device)
                else:
                    reply = _answer(bench, msgspec.json.decode(line, type=Request))
            # Whatever is measured may raise anything at all; the comparison is told, and decides.
            except (Exception, SystemExit) as error:  # noqa: BLE001 - see above
                reply = _failed(error)
            replies.write(msgspec.json.encode(reply) + b"\n")
    finally:
        if bench:
            bench.close()


def _answer(bench: Workbench, request: Open | Round) -> Reply:
    return bench.open(request.key) if isinstance(request, Open) else Took(bench.seconds())


def _failed(error: BaseException) -> Failed:
    """What is told. Errors of the asynckit that is measured are of other classes with the same names."""
    kind = type(error).__name__
    if {"message", "where", "mend"} <= vars(error).keys() and hasattr(errors, kind):
        return Failed(kind, *error.args)
    return Failed("WorkFailed", describe(error))


def set_up(job: Job) -> Workbench:
    """Find the cases of a job.

    Raises:
        AsynckitError: they, the model or the device are wrong or missing.
    """
    device = choose_device(job.bench.device)
    if job.root:
        step_into(Path(job.root), Path(job.folder))
    cases, close = find_cases(job, device)
    return Workbench(job.name, cases, device, job.bench, close)


def step_into(root: Path, folder: Path) -> None:
    """Import from ``root`` from now on, and forget the modules of this asynckit that measure.

    Args:
        root: of a checked-out repository; also its folder ``src``, if it has one.
        folder: to work in.
    """
    os.chdir(folder)
    first = [str(folder), *(str(each) for each in (root / "src", root) if each.is_dir())]
    sys.path[:] = [*dict.fromkeys(first), *(each for each in sys.path if each not in first)]
    if any((Path(each) / _OWN / "__init__.py").is_file() for each in first):
        for name in [each for each in sys.modules if each.partition(".")[0] == _OWN]:
            del sys.modules[name]
    importlib.invalidate_caches()


def find_cases(job: Job, device: Device) -> tuple[Sequence[Case], Callable[[], None]]:
    """The cases of a job, and what frees what they share.

    Raises:
        UsageError: the repository is not asynckit's, and cases of its suite were asked for.
        DependencyError: the revision has no such suite.
        InputError: a function comes from elsewhere than from the code that is to be measured.
        AsynckitError: as :meth:`asynckit.bench.suite.Suite.cases` does.
    """
    if job.patterns and all(names_function(pattern) for pattern in job.patterns):
        cases = [function_case(pattern) for pattern in job.patterns]
        for pattern in job.patterns if job.root else ():
            check_origin(pattern.partition(":")[0], Path(job.root), pattern)
        return cases, _nothing
    return _suite_cases(job, device)


def _suite_cases(job: Job, device: Device) -> tuple[Sequence[Case], Callable[[], None]]:
    """From the suite of the asynckit that is measured, whose settings may be fewer."""
    try:
        suites, subjects = (importlib.import_module(f"{_OWN}.bench.{name}") for name in ("suite", "subject"))
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(_OWN):
            raise
        mend = "compare a --case module:function, or later revisions"
        raise DependencyError("has no cases of bench-cuda yet", where=job.name, mend=mend) from error
    if job.root:
        check_origin(_OWN, Path(job.root), job.name)
    model = _theirs(job.model, "models.config", "ModelConfig")
    suite = suites.Suite(
        device.kind,
        lambda: subjects.find_subject(model),
        _theirs(job.bench, "bench.config", "BenchConfig"),
        _theirs(job.engine, "engine.config", "EngineConfig"),
        job.lora_compute,
    )
    return suite.cases(job.patterns), suite.close


def _theirs(ours: Any, module: str, name: str) -> Any:
    """Settings as the asynckit that is measured has them.

    Raises:
        UsageError: it lacks one that is not at its default.
    """
    kind = getattr(importlib.import_module(f"{_OWN}.{module}"), name)
    given, usual = msgspec.to_builtins(ours), msgspec.to_builtins(type(ours)())
    known = msgspec.to_builtins(kind())
    for setting in given:
        if setting not in known and given[setting] != usual[setting]:
            raise UsageError(
                f"the revision has no setting {setting}", where=setting, mend="leave it at its default"
            )
    return msgspec.convert({each: value for each, value in given.items() if each in known}, kind)


def check_origin(module: str, root: Path, where: str) -> None:
    """Raise unless an imported module lies in ``root``: both sides would measure the same code.

    Raises:
        UsageError: it is the installed asynckit, and the repository is another's.
        InputError: it lies elsewhere.
    """
    found = getattr(sys.modules[module], "__file__", None)
    if found and Path(found).resolve().is_relative_to(root.resolve()):
        return
    if module == _OWN:
        raise UsageError(
            "this repository is not asynckit's: its revisions don't change the suite",
            where=where,
            mend="name a function of this repository: --case module:function",
        )
    raise InputError(
        f"{module} is imported from {found or 'nowhere'}, not from the revision: the sides would be alike",
        where=where,
        mend="name a function that the repository has in its folder, in src, or where you are",
    )


def _nothing() -> None:
    pass


if __name__ == "__main__":
    main()
