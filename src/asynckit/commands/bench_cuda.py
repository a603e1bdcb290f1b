"""``asynckit bench-cuda``: GPU timings one can trust."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asynckit import console
from asynckit.commands import options

if TYPE_CHECKING:
    from asynckit.bench.comparisons import ComparisonReport
    from asynckit.bench.results import Report
    from asynckit.config.load import LoadedConfig
    from asynckit.config.schema import Root

app = typer.Typer(add_completion=False)


@app.command("bench-cuda")
def bench_cuda(
    overrides: options.Overrides = None,
    cases: Annotated[
        list[str] | None,
        typer.Option(
            "--case", metavar="NAME", help='A case or group, "gemm qkv M=64", or module:function; repeatable.'
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the cases and measure nothing.")] = False,
    env: Annotated[bool, typer.Option("--env", help="Describe the machine and measure nothing.")] = False,
    model: options.Model = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cuda or cpu.")] = None,
    lora_compute: Annotated[
        bool | None,
        typer.Option("--lora-compute/--no-lora-compute", help="Leave the arithmetic of adapters out."),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="FILE", help="Compare with a report that was saved.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="PARTNER",
            help="Take turns with a revision, module:function or YAML file.",
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Share by which slower is a regression (exit code 6).")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Show or compare a saved report; measure nothing."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the report: .json, .csv, .md or .html.")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Run each case once in an NVTX range, for nsys and ncu.")
    ] = False,
    config_files: options.ConfigFiles = None,
    settings: options.Settings = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Time what training and serving language models is made of, and say how sure the times are."""
    from asynckit.config.load import Flag

    _refuse_combinations(
        {
            "--list": list_,
            "--env": env,
            "--profile": profile,
            "--against": against is not None,
            "--baseline": baseline is not None,
        },
        report=report is not None,
        out=out,
    )
    _refuse_unused(
        {"--case": bool(cases), "--model": model is not None, "--device": device is not None},
        {"--report": report is not None, "--env": env},
    )
    flags = [
        Flag("model.name", model, "--model"),
        Flag("bench.device", device, "--device"),
        Flag("bench.threshold", threshold, "--threshold"),
        Flag("engine.lora_compute", lora_compute, "--lora-compute"),
    ]

    def load(*more: Path) -> "LoadedConfig":
        files = [*(config_files or []), *more]
        return options.load(files=files, settings=settings, overrides=overrides, flags=flags, verbose=verbose)

    loaded = load()
    patterns = tuple(cases or ())
    if env:
        _show_environment(loaded.root, json=json)
    elif list_:
        _list(loaded.root, patterns, json=json)
    elif profile:
        _profile(loaded.root, patterns, json=json, quiet=quiet)
    elif against is not None:
        _show_comparison(_compare(against, patterns, loaded, load, quiet=quiet), json=json)
    else:
        _report(loaded, patterns, report, baseline, out, json=json, quiet=quiet)


def _refuse_combinations(asked: dict[str, bool], *, report: bool, out: Path | None) -> None:
    """Refuse flags that contradict each other, before anything is measured."""
    from asynckit.bench.formats import check_format
    from asynckit.errors import UsageError

    given = [flag for flag, wanted in asked.items() if wanted]
    if len(given) > 1:
        raise UsageError("choose one", where=", ".join(given), mend="leave the others out")
    if report and given and given != ["--baseline"]:
        raise UsageError(
            "a saved report is not measured again", where=f"--report, {given[0]}", mend="choose one"
        )
    if out is not None:
        if given and given != ["--baseline"]:
            raise UsageError(f"{given[0]} makes no report", where="--out", mend="leave it out")
        check_format(out)
        if not out.absolute().parent.is_dir():
            raise UsageError(f"there is no folder {out.absolute().parent}", where="--out", mend="make it")


def _refuse_unused(chosen: dict[str, bool], unmeasured: dict[str, bool]) -> None:
    """Refuse to choose what is measured where nothing is: what is shown would be something else."""
    from asynckit.errors import UsageError

    reason = {"--report": "a saved report is shown whole", "--env": "nothing is measured"}
    for flag in (each for each, given in unmeasured.items() if given):
        unused = [each for each, given in chosen.items() if given and (flag, each) != ("--env", "--device")]
        if unused:
            raise UsageError(reason[flag], where=f"{flag}, {unused[0]}", mend=f"leave {unused[0]} out")


def _report(
    loaded: "LoadedConfig",
    patterns: tuple[str, ...],
    saved: Path | None,
    baseline: Path | None,
    out: Path | None,
    *,
    json: bool,
    quiet: bool,
) -> None:
    """Measure, or read what was measured; show, write and compare it."""
    from asynckit.bench.baseline import compare_with_baseline, refuse_other_device
    from asynckit.bench.formats import load_report, render, write_report
    from asynckit.bench.formats.json_file import to_json
    from asynckit.bench.run import describe_machine

    before = load_report(baseline) if baseline else None
    if baseline and before and not saved:  # not only after minutes of measuring
        refuse_other_device(before, describe_machine(loaded.root.bench.device), str(baseline))
    found = load_report(saved) if saved else _measure(loaded, patterns, quiet=quiet)
    if out:
        write_report(found, out)
    if baseline and before:
        bench = loaded.root.bench
        compared = compare_with_baseline(
            before,
            found,
            name=str(baseline),
            threshold=bench.threshold,
            confidence=bench.confidence,
            seed=bench.seed,
        )
        _show_comparison(compared, json=json)
    elif json:
        console.print_json_text(to_json(found))
    else:
        terminal = console.stdout()
        console.print_for_people(*render(found, terminal.width if terminal.is_terminal else None))
    if not saved:
        _raise_for_failures(found)


def _raise_for_failures(found: "Report") -> None:
    """End with exit code 1 where a case ended with an error; what was measured has been shown."""
    from asynckit.bench.running import STOPPED, failed
    from asynckit.errors import Interrupted, WorkFailed

    if any(row.reason == STOPPED for row in found.rows):
        raise Interrupted("stopped; what was measured until then is in the report", mend="")
    rows = [row for row in found.rows if failed(row)]
    if rows:
        raise WorkFailed(
            f"{len(rows)} of {len(found.rows)} cases {rows[0].reason}",
            where=rows[0].key,
            mend="the report has every reason; --verbose shows tracebacks",
        )


def _measure(loaded: "LoadedConfig", patterns: tuple[str, ...], *, quiet: bool) -> "Report":
    from asynckit.bench.run import run_suite
    from asynckit.config.values import plain

    root = loaded.root
    _say_where(root.bench.device)
    progress = _Progress(quiet=quiet)
    try:
        return run_suite(
            patterns,
            model=root.model,
            engine=root.engine,
            config=root.bench,
            lora_compute=root.engine.lora_compute,
            settings={name: plain(getattr(root, name), mask=True) for name in ("bench", "engine", "model")},
            told=progress.told,
        )
    finally:
        progress.close()


def _say_where(device: str) -> None:
    """Say on stderr that no GPU is measured, where one might have been."""
    from asynckit.bench.devices import why_cpu

    if device == "auto" and (reason := why_cpu()):
        console.print_note(f"no GPU: {reason}; these are times of the CPU, and rows for GPUs are empty")


def _compare(
    against: str, patterns: tuple[str, ...], loaded: "LoadedConfig", load: Any, *, quiet: bool
) -> "ComparisonReport":
    from asynckit.bench.against import (
        Partner,
        compare_configurations,
        compare_functions,
        compare_revision,
        kind_of_partner,
    )
    from asynckit.errors import Interrupted
    from asynckit.interrupts import sigterm_as_interrupt

    _say_where(loaded.root.bench.device)
    kind, progress = kind_of_partner(against), _Progress(quiet=quiet)
    try:
        with sigterm_as_interrupt():  # so that a checked-out revision is removed
            if kind is Partner.FUNCTION:
                return compare_functions(against, patterns, loaded.root.bench, progress.round)
            job = _job(loaded.root, patterns, "this configuration")
            if kind is Partner.REVISION:
                return compare_revision(against, job, Path.cwd(), progress.round)
            partner = _job(load(Path(against)).root, patterns, against)
            return compare_configurations(partner, job, progress.round)
    except KeyboardInterrupt:
        raise Interrupted("stopped; nothing was decided", mend="") from None
    finally:
        progress.close()


def _job(root: "Root", patterns: tuple[str, ...], name: str) -> Any:
    from asynckit.bench.side_messages import Job

    return Job(
        name=name,
        patterns=patterns,
        model=root.model,
        engine=root.engine,
        bench=root.bench,
        lora_compute=root.engine.lora_compute,
    )


def _show_comparison(found: "ComparisonReport", *, json: bool) -> None:
    from asynckit.bench.comparison_table import render, to_json
    from asynckit.bench.comparisons import raise_on_regression
    from asynckit.errors import WorkFailed

    if json:
        console.print_json_text(to_json(found))
    else:
        console.print_for_people(*render(found))
    if found.failures:
        first = found.failures[0]
        raise WorkFailed(
            f"{len(found.failures)} of {len(found.comparisons)} cases failed: {first.reason}",
            where=first.key,
            mend="the comparison has every reason; --verbose shows tracebacks",
        )
    raise_on_regression(found)


def _profile(root: "Root", patterns: tuple[str, ...], *, json: bool, quiet: bool) -> None:
    from asynckit.bench.run import profile_suite

    _say_where(root.bench.device)
    progress = _Progress(quiet=quiet)
    try:
        ran = profile_suite(
            patterns,
            model=root.model,
            engine=root.engine,
            config=root.bench,
            lora_compute=root.engine.lora_compute,
            told=progress.told,
        )
    finally:
        progress.close()
    if json:
        console.print_json({"schema": "asynckit.bench.profile/1", "ran": ran})
    else:
        console.print_for_people(f"{len(ran)} cases ran once, each in an NVTX range of its name")


def _list(root: "Root", patterns: tuple[str, ...], *, json: bool) -> None:
    """The cases that the patterns select, or all."""
    from asynckit.bench.cases.case import count_gpus, reason_against
    from asynckit.bench.devices import choose_device
    from asynckit.bench.run import make_suite
    from asynckit.bench.suite import FAMILIES

    device = choose_device(root.bench.device).kind
    suite = make_suite(root.model, root.engine, root.bench, device, lora_compute=root.engine.lora_compute)
    found = suite.cases(patterns or tuple(family.name for family in FAMILIES))
    gpus = count_gpus(device)
    rows = [
        {
            "case": case.key,
            "group": case.group,
            "default": case.default,
            "reason": reason_against(case, device, gpus),
        }
        for case in found
    ]
    if json:
        console.print_json({"schema": "asynckit.bench.cases/1", "device": device, "cases": rows})
        return
    from rich.table import Table

    table = Table(title=f"cases on {device}", title_justify="left")
    for name in ("case", "group", "by default", "can't be measured here because it"):
        table.add_column(name)
    for row in rows:
        table.add_row(
            str(row["case"]), str(row["group"]), "yes" if row["default"] else "", str(row["reason"])
        )
    console.print_for_people(table)


def _show_environment(root: "Root", *, json: bool) -> None:
    from asynckit.bench.formats import render_environment
    from asynckit.bench.formats.json_file import to_json
    from asynckit.bench.run import describe_machine

    _say_where(root.bench.device)
    found = describe_machine(root.bench.device)
    if json:
        console.print_json_text(to_json(found))
    else:
        console.print_for_people(render_environment(found))


class _Progress:
    """Cases on stderr, as they are measured."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._shown: console.Progress | None = None

    def told(self, done: int, count: int, key: str) -> None:
        """So many are done, and the next is ``key``."""
        if self._shown is None:
            self._shown = console.Progress(count, "case", quiet=self._quiet)
        self._shown.update(done, key)

    def round(self, key: str, rounds: int) -> None:
        """A round of a comparison is over."""
        if self._shown is None:
            self._shown = console.Progress(None, "round", quiet=self._quiet)
        self._shown.update(rounds, key)

    def close(self) -> None:
        """Leave the terminal tidy."""
        if self._shown is not None:
            self._shown.close()
