"""``asynckit rollout``: prompts in, scored trajectories out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asynckit import console
from asynckit.commands import options

if TYPE_CHECKING:
    from asynckit.config.load import LoadedConfig
    from asynckit.rollout.summary import Summary

app = typer.Typer(add_completion=False)


@app.command()
def rollout(
    overrides: options.Overrides = None,
    model: options.Model = None,
    prompts: Annotated[
        str | None, typer.Option("--prompts", "-p", help="JSONL, Parquet or CSV file, or reasoning_gym:TASK.")
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(
            "--reward",
            "-r",
            help="A built-in (last_number, math_verify, …), module:function or module:Class.",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", help="torch, openai (servers), vllm, or simulated (no model)."),
    ] = None,
    samples: Annotated[int | None, typer.Option("-n", "--samples", help="Samples per prompt.")] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Run directory; runs/<date>-<time> by default.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run directory that exists.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, with its own settings.")
    ] = False,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Forecast the run in virtual time; generate nothing.")
    ] = False,
    from_run: Annotated[
        Path | None,
        typer.Option(
            "--from-run",
            metavar="RUN",
            help="With --simulate: settings, step times and lengths of a run that was made.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything that can be checked without generating.")
    ] = False,
    max_failures: Annotated[
        int | None, typer.Option("--max-failures", help="Failed samples that still count as success.")
    ] = None,
    trace: Annotated[
        bool | None, typer.Option("--trace/--no-trace", help="Write trace.json, a timeline of the run.")
    ] = None,
    config_files: options.ConfigFiles = None,
    settings: options.Settings = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Generate responses to prompts on Ray, score them, and write one record per sample."""
    from asynckit.config.load import Flag
    from asynckit.errors import UsageError
    from asynckit.rollout.run_directory import RunDirectory

    if resume and (overwrite or not out):
        raise UsageError(
            "--resume goes on with a run, --overwrite replaces it" if overwrite else "--resume needs a run",
            where="--resume",
            mend="leave one of them out" if overwrite else "name its folder: --out runs/NAME",
        )
    _refuse_combinations(simulate=simulate, from_run=from_run, dry_run=dry_run, real=resume or overwrite)
    own = RunDirectory(Path(out)).config_path if resume and out else None
    if own and not own.is_file():
        raise UsageError("there is no run to resume", where=str(out), mend="name the folder of one")
    if from_run:
        own = RunDirectory(from_run.expanduser()).config_path
        if not own.is_file():
            raise UsageError("there is no run to go by", where=str(from_run), mend="name the folder of one")
    loaded = options.load(
        files=[*([own] if own else []), *(config_files or [])],
        settings=settings,
        overrides=overrides,
        flags=[
            Flag("model.name", model, "--model"),
            Flag("prompts.source", prompts, "--prompts"),
            Flag("reward.name", reward, "--reward"),
            Flag("rollout.engine", engine, "--engine"),
            Flag("rollout.n", samples, "-n"),
            Flag("rollout.out", out, "--out"),
            Flag("rollout.max_failures", max_failures, "--max-failures"),
            Flag("rollout.trace", trace, "--trace"),
        ],
        verbose=verbose,
    )
    if own and resume:
        _refuse_changes(own, loaded)
    if simulate:
        _forecast(loaded, from_run, json=json, quiet=quiet)
        return
    if dry_run:
        _dry_run(loaded, overwrite=overwrite, resume=resume, json=json, quiet=quiet)
        return
    from asynckit.rollout.summary import render_table

    summary = _run(loaded, overwrite=overwrite, resume=resume, quiet=quiet)
    if json:
        console.print_json(summary.to_dict())
    else:
        console.stdout().print(render_table(summary))
    summary.raise_for_failures(loaded.root.rollout.max_failures)


def _run(loaded: "LoadedConfig", *, overwrite: bool, resume: bool, quiet: bool) -> "Summary":
    from asynckit.errors import Interrupted
    from asynckit.rollout.run import run_rollout

    root = loaded.root
    try:
        return run_rollout(
            model=root.model,
            engine=root.engine,
            simulated=root.simulated,
            openai=root.openai,
            sampling=root.sampling,
            prompts=root.prompts,
            reward=root.reward,
            rollout=root.rollout,
            async_training=root.async_training,
            learner=root.learner,
            ray=root.ray,
            config=loaded.to_replay(),
            digest=loaded.digest,
            identity=loaded.identity,
            overwrite=overwrite,
            resume=resume,
            quiet=quiet,
        )
    except KeyboardInterrupt:  # before there was anything to stop, or while Ray was being stopped
        raise Interrupted("stopped; what was finished is on disk", mend="") from None


def _refuse_combinations(*, simulate: bool, from_run: Path | None, dry_run: bool, real: bool) -> None:
    """Refuse flags that contradict each other."""
    from asynckit.errors import UsageError

    if simulate and dry_run:
        raise UsageError("choose one", where="--simulate, --dry-run", mend="leave one of them out")
    if simulate and real:
        raise UsageError(
            "a forecast touches no run directory",
            where="--simulate",
            mend="leave out --resume and --overwrite",
        )
    if from_run and not simulate:
        raise UsageError("belongs to --simulate", where="--from-run", mend="add --simulate")


def _refuse_changes(own: Path, loaded: "LoadedConfig") -> None:
    """Name the settings that a run that goes on may not have."""
    from asynckit.config.recorded import changed_settings
    from asynckit.errors import ConfigError

    if changed := changed_settings(own, loaded.root):
        raise ConfigError(
            f"{', '.join(changed)}: other settings than the run was begun with would make other records",
            where=str(own),
            mend="leave them out: --resume reads them from the run itself",
        )


def _forecast(loaded: "LoadedConfig", from_run: Path | None, *, json: bool, quiet: bool) -> None:
    """Print how the run would go."""
    from asynckit.config.load import load_config
    from asynckit.rollout.planning.forecast import RecordedRun, forecast
    from asynckit.rollout.planning.forecast_table import render, warnings
    from asynckit.rollout.run_directory import RunDirectory

    root, recorded = loaded.root, None
    if from_run:
        folder = from_run.expanduser().absolute()
        then = load_config(files=[RunDirectory(folder).config_path], environ={}).root
        recorded = RecordedRun(folder, then.engine, then.simulated, then.rollout.replicas)
    found = forecast(
        model=root.model,
        engine=root.engine,
        simulated=root.simulated,
        sampling=root.sampling,
        prompts=root.prompts,
        rollout=root.rollout,
        async_training=root.async_training,
        learner=root.learner,
        recorded=recorded,
        quiet=quiet,
    )
    for text in warnings(found):
        console.print_note(f"note: {text}")
    if json:
        console.print_json(found.to_dict())
        return
    for part in render(found):
        console.stdout().print(part, soft_wrap=isinstance(part, str))


def _dry_run(loaded: "LoadedConfig", *, overwrite: bool, resume: bool, json: bool, quiet: bool) -> None:
    """Print what was found, and end with the error that weighs most."""
    from asynckit.rollout.planning.dry_run import dry_run
    from asynckit.rollout.planning.findings import render

    root = loaded.root
    found = dry_run(
        model=root.model,
        engine=root.engine,
        simulated=root.simulated,
        openai=root.openai,
        sampling=root.sampling,
        prompts=root.prompts,
        reward=root.reward,
        rollout=root.rollout,
        async_training=root.async_training,
        learner=root.learner,
        ray=root.ray,
        identity=loaded.identity,
        overwrite=overwrite,
        resume=resume,
        quiet=quiet,
    )
    if json:
        console.print_json(found.to_dict())
    else:
        console.stdout().print(render(found))
    found.raise_worst()
