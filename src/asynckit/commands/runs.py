"""``asynckit runs``: what rollouts left behind."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asynckit import console
from asynckit.commands import options
from asynckit.errors import UsageError

if TYPE_CHECKING:
    from asynckit.rollout.afterwards.run_reader import Run
    from asynckit.rollout.afterwards.run_view import Choice

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List, show, audit, report and export what rollout left behind.",
)

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run, or its name under runs/.")]


@app.callback()
def runs() -> None:
    """List, show, audit and export what rollout left behind."""


def _begin(config_files: list[Path] | None, settings: list[str] | None, *, verbose: bool) -> None:
    """Set up the console. Settings are read because every command takes them; runs have their own."""
    if config_files or settings:
        options.load(files=config_files, settings=settings, overrides=None, flags=[], verbose=verbose)
    console.set_up(verbose=verbose)


def _open(name: str) -> "Run":
    """The run of that name; one whose config.json is damaged is refused."""
    from asynckit.rollout.afterwards.run_reader import find_run

    run = find_run(name)
    run.config()
    return run


@app.command("list")
def list_(
    folder: Annotated[Path, typer.Argument(help="Folder to look into, and into the folders in it.")] = Path(
        "runs"
    ),
    config_files: options.ConfigFiles = None,
    settings: options.Settings = None,
    json: options.Json = False,
    quiet: options.Quiet = False,  # noqa: ARG001 - there is no progress to silence; every command takes it
    verbose: options.Verbose = False,
) -> None:
    """List runs, the newest first; also those that are running or were killed."""
    from asynckit.rollout.afterwards.run_listing import list_runs, render, to_dict

    _begin(config_files, settings, verbose=verbose)
    found = list_runs(folder)
    if json:
        console.print_json(to_dict(folder, found))
    elif found:
        console.print_for_people(render(folder, found))
    else:
        console.print_note(f"there are no runs in {folder}")


@app.command()
def show(
    run: RunName,
    group: Annotated[
        str | None, typer.Option("--group", "-g", metavar="ID", help="Show this group's samples.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", "-s", min=0, help="Only this sample of the group.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many groups or samples.")] = 20,
    status: Annotated[
        str | None, typer.Option("--status", help="Only samples of this status, and their groups.")
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", help="written, reward, length or time; the most first.")
    ] = "written",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    config_files: options.ConfigFiles = None,
    settings: options.Settings = None,
    json: options.Json = False,
    quiet: options.Quiet = False,  # noqa: ARG001 - as above
    verbose: options.Verbose = False,
) -> None:
    """Show a run's summary and groups, or the conversations of one group."""
    from asynckit.rollout.afterwards.run_view import SORTS, Choice, find_group, group_samples
    from asynckit.rollout.record import STATUSES

    _begin(config_files, settings, verbose=verbose)
    _one_of(sort, SORTS, "--sort")
    if status is not None:
        _one_of(status, STATUSES, "--status")
    if sample is not None and group is None:
        raise UsageError("a sample is one of a group", where="--sample", mend="name the group with --group")
    found = _open(run)
    choice = Choice(status, sort, reverse, limit)
    if group is None:
        _show_groups(found, choice, json=json)
        return
    from asynckit.rollout.afterwards.run_view import samples_to_dict
    from asynckit.rollout.afterwards.transcript import print_samples

    its = find_group(found, group)
    samples = group_samples(its, choice, sample)
    if json:
        console.print_json(samples_to_dict(found, its, samples))
    else:
        print_samples(samples, console.stdout())


def _show_groups(run: "Run", choice: "Choice", *, json: bool) -> None:
    from asynckit.rollout.afterwards.run_listing import list_runs, render
    from asynckit.rollout.afterwards.run_view import group_rows, rows_to_dict
    from asynckit.rollout.afterwards.transcript import groups_table, summary_table

    rows = group_rows(run, choice)
    if json:
        console.print_json(rows_to_dict(run, run.summary(), rows))
        return
    total = run.groups_submitted()
    summary = run.summary()
    about = [render(run.path.parent, list_runs(run.path))]
    console.print_for_people(
        *about, *([summary_table(summary)] if summary else []), groups_table(rows, total)
    )


@app.command()
def audit(
    run: RunName,
    config_files: options.ConfigFiles = None,
    settings: options.Settings = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Prove from its files that a run is whole and keeps its promises; exit code 1 if not."""
    from asynckit.config.recorded import read_recorded
    from asynckit.rollout.afterwards.audit import audit as check_run
    from asynckit.rollout.afterwards.audit_records import terms_of
    from asynckit.rollout.afterwards.audit_report import render

    _begin(config_files, settings, verbose=verbose)
    found = _open(run)
    recorded = read_recorded(found.config_path)
    root = recorded.root
    terms = terms_of(
        root.rollout,
        root.sampling.seed,
        root.async_training,
        root.learner,
        recorded.identity,
        intact=recorded.intact,
    )
    progress = console.Progress(found.groups_submitted() * root.rollout.n, "sample", quiet=quiet)
    try:
        result = check_run(found, terms, progress.update)
    finally:
        progress.close()
    if json:
        console.print_json(result.to_dict())
    else:
        console.print_for_people(*render(result))
    result.raise_for_findings()


@app.command()
def report(
    run: RunName,
    config_files: options.ConfigFiles = None,
    settings: options.Settings = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make report.html from a run's files: of one that was killed, or that is still going on."""
    from asynckit.rollout.afterwards.run_reader import find_run
    from asynckit.rollout.observing.report import write_report

    _begin(config_files, settings, verbose=verbose)
    path = write_report(find_run(run).path)
    if json:
        console.print_json({"schema": "asynckit.report/1", "path": str(path)})
    elif not quiet:
        console.stdout().print(str(path), markup=False, soft_wrap=True)


@app.command()
def export(
    run: RunName,
    to: Annotated[str, typer.Option("--to", help="verl, trl, slime, or jsonl: the records as they are.")],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="FILE", help="RUN.TO.… by default; - is stdout, as JSON lines."),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            help="Only samples of these statuses, with commas between; completed,truncated for trainers.",
        ),
    ] = None,
    min_reward: Annotated[
        float | None, typer.Option("--min-reward", help="Only samples with at least this reward.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
    config_files: options.ConfigFiles = None,
    settings: options.Settings = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write a run's samples in the shape that a trainer reads."""
    from asynckit.rollout.afterwards.export import export as write
    from asynckit.rollout.afterwards.export import place_for
    from asynckit.rollout.record import STATUSES

    _begin(config_files, settings, verbose=verbose)
    statuses = None if status is None else tuple(status.split(","))
    for each in statuses or ():
        _one_of(each, STATUSES, "--status")
    if json and out == "-":
        raise UsageError("both want stdout", where="--json, --out -", mend="leave one of them out")
    found = _open(run)
    path = place_for(found, to, out, overwrite=overwrite)
    exported = write(found, to, path, statuses=statuses, min_reward=min_reward)
    name = "stdout" if path is None else str(path)
    if json:
        console.print_json(exported.to_dict(to, name))
    elif not quiet:
        left = ", ".join(f"{count:,} {reason}" for reason, count in exported.left_out.items())
        console.print_note(
            f"{exported.samples:,} samples of {exported.groups:,} groups in {exported.rows:,} rows: {name}"
            + (f"; left out: {left}" if left else "")
        )


def _one_of(value: str, known: tuple[str, ...], flag: str) -> None:
    """Raise UsageError unless ``value`` is one of ``known``."""
    if value not in known:
        from asynckit.near_miss import did_you_mean

        mend = did_you_mean(value, known) or f"use one of {', '.join(known)}"
        raise UsageError(f"there is no {value!r}", where=flag, mend=mend)
