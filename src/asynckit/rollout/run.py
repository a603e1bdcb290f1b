"""A rollout from the command's side: check, start Ray, run the task runner, show progress, stop cleanly."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from asynckit.cluster.config import RayConfig
from asynckit.cluster.connection import connect, disconnect
from asynckit.console import print_note
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import AsynckitError, ConfigError, Interrupted, WorkFailed
from asynckit.interrupts import sigterm_as_interrupt
from asynckit.models.config import ModelConfig
from asynckit.models.tokenizer import load_tokenizer
from asynckit.rollout.cluster import refuse_impossible
from asynckit.rollout.config import (
    AsyncTrainingConfig,
    LearnerConfig,
    PromptsConfig,
    RewardConfig,
    RolloutConfig,
)
from asynckit.rollout.engines.generators import find_model
from asynckit.rollout.engines.openai_servers import server_urls
from asynckit.rollout.episodes.environments import check_environment
from asynckit.rollout.group import GroupStatus
from asynckit.rollout.job import Job
from asynckit.rollout.ledger import NAME as LEDGER
from asynckit.rollout.ledger import Ledger, has_finished
from asynckit.rollout.observing.live_table import LiveTable
from asynckit.rollout.observing.loggers import require_loggers
from asynckit.rollout.openai_config import OpenAIConfig
from asynckit.rollout.prompting.prompt_stream import PromptStream
from asynckit.rollout.prompting.prompts import load_prompts
from asynckit.rollout.recovery import recover, summarize
from asynckit.rollout.run_directory import RunDirectory
from asynckit.rollout.scoring.reward_loading import check_rewards, choose_rewards, weights_of
from asynckit.rollout.simulated_learner import step_seconds
from asynckit.rollout.summary import Summary, how_to_resume
from asynckit.rollout.supply import Supply

_REFRESH_SECONDS = 0.2  # asking more often would take the engines' time
_STOP_SECONDS = 40.0  # above all that a stopping run may wait for, part by part


def run_rollout(
    *,
    model: ModelConfig,
    engine: EngineConfig,
    simulated: SimulatedConfig,
    openai: OpenAIConfig,
    sampling: SamplingParams,
    prompts: PromptsConfig,
    reward: RewardConfig,
    rollout: RolloutConfig,
    async_training: AsyncTrainingConfig,
    learner: LearnerConfig,
    ray: RayConfig,
    config: Mapping[str, Any],
    digest: str,
    identity: str,
    overwrite: bool,
    resume: bool,
    quiet: bool,
) -> Summary:
    """Run a rollout to its end, or go on with one that was cut off.

    What can be wrong with the inputs is found before Ray starts and before the run directory is touched.

    Args:
        model: what to load.
        engine: how to run it.
        simulated: how fast and how long, where no model runs.
        openai: the servers, where they generate.
        sampling: how tokens are chosen.
        prompts: where prompts come from.
        reward: how responses are scored.
        rollout: the run itself.
        async_training: how far generation may be ahead of the learner.
        learner: who trains.
        ray: how to reach Ray.
        config: the resolved configuration as it is written into the run directory.
        digest: digest of the whole configuration.
        identity: digest of the settings that determine what the run produces.
        overwrite: whether an existing run directory may be replaced.
        resume: whether to go on with the run in ``rollout.out``.
        quiet: show no progress.

    Raises:
        AsynckitError: an input is wrong, something is missing, or the run failed; see the exit codes.
    """
    began = time.time()
    found = load_prompts(prompts, lambda: _tokenizer(model, rollout, quiet=quiet))
    import_paths = (str(Path.cwd()),)
    reward = choose_rewards(reward, found)
    check_rewards(reward, import_paths=import_paths)
    check_environment(rollout.environment, weights_of(reward), found, import_paths)
    if rollout.engine == "openai":
        server_urls(openai)
    find_model(model, rollout.engine, progress=not quiet)
    refuse_contradictions(rollout, learner)
    require_loggers(rollout.loggers)
    stream = PromptStream(found, epochs=prompts.epochs, shuffle=prompts.shuffle, seed=prompts.seed)
    if not resume:
        out = rollout.out or time.strftime("runs/%Y%m%d-%H%M%S")
        folder = RunDirectory.check(out, overwrite=overwrite).path
    else:
        assert rollout.out, "the command asks for it"
        folder = Path(rollout.out)

    def job(directory: RunDirectory, attempt: int) -> Job:
        return Job(
            model=model,
            engine=engine,
            simulated=simulated,
            openai=openai,
            sampling=sampling,
            reward=reward,
            rollout=rollout,
            async_training=async_training,
            learner=learner,
            identity=identity,
            folder=directory.path,
            import_paths=import_paths,
            chat=any(prompt.messages is not None for prompt in found),
            began=began,
            attempt=attempt,
        )

    if resume:
        with RunDirectory.resume(folder, identity=identity) as (directory, attempt):
            its = job(directory, attempt)
            supply = Supply(stream, its)
            if done := _nothing_owed(its, supply):
                directory.logs(attempt).rmdir()  # nothing was attempted
                return done
            with _ray(ray), sigterm_as_interrupt():
                if ray.address == "local":
                    refuse_impossible(engine, rollout)
                return _run(its, supply, lambda: None, quiet=quiet)
    with (
        _ray(ray),
        sigterm_as_interrupt(),  # after Ray, which puts a handler of its own in place
        RunDirectory.reserve(folder, overwrite=overwrite) as (directory, accept),
    ):
        if ray.address == "local":
            refuse_impossible(engine, rollout)
        directory.write_config(dict(config), digest, identity)
        its = job(directory, 1)
        return _run(its, Supply(stream, its), accept, quiet=quiet)


def _tokenizer(model: ModelConfig, rollout: RolloutConfig, *, quiet: bool) -> Any:
    return load_tokenizer(find_model(model, rollout.engine, progress=not quiet), model)


def refuse_contradictions(rollout: RolloutConfig, learner: LearnerConfig) -> None:
    """Find settings that can't work together, before anything starts.

    Raises:
        ConfigError: there are some.
    """
    step_seconds(learner, 0)
    if rollout.filter_groups and rollout.n < 2:
        raise ConfigError(
            "the rewards of a group of one are always equal, so every group would be filtered",
            where="rollout.filter_groups",
            mend="use rollout.n=2 or more",
        )
    if learner.change_weights and rollout.engine not in ("torch", "simulated"):
        raise ConfigError(
            f"the engine {rollout.engine} takes no new weights",
            where="learner.change_weights",
            mend="use rollout.engine=torch, or learner.change_weights=false",
        )
    if rollout.mode == "sync" and learner.kind == "none":
        raise ConfigError(
            "without a learner there is nobody to take turns with",
            where="rollout.mode",
            mend="use learner.kind=simulated, or rollout.mode=async",
        )


def _nothing_owed(job: Job, supply: Supply) -> Summary | None:
    """The summary of a run that has nothing left to do; None for one that has.

    Raises:
        InputError: the prompts are not those that the run was begun with, or its files can't be read.
    """
    directory = RunDirectory(job.folder)
    ledger = Ledger(directory.path / LEDGER)
    try:
        known = ledger.ids()
        supply.restore(known, ledger.counts().get(GroupStatus.FILTERED, 0))
        if len(known) < len(supply.groups) or ledger.owed() or ledger.unsettled() or ledger.uncommitted():
            return None
        if before := Summary.from_dict(directory.read_summary() or {}):
            return before
        tally = recover(ledger, directory.trajectories)
        summary = summarize(
            job,
            ledger,
            tally,
            wanted=supply.wanted,
            status="done",
            tokens_per_second=0.0,
            idle_ratio=None,
        )
    finally:
        ledger.close()
    directory.write_summary(summary.to_dict())  # the run may have been killed before it could
    return summary


def _run(job: Job, supply: Supply, accept: Callable[[], None], *, quiet: bool) -> Summary:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from asynckit.rollout.task_runner import FullyAsyncTaskRunner

    # The runner writes the run directory, so it lives where the command runs.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    runner = (
        ray.remote(FullyAsyncTaskRunner)
        .options(num_cpus=0, max_concurrency=16, scheduling_strategy=here)
        .remote(job, supply)
    )
    result = runner.run.remote()
    table = LiveTable(quiet=quiet)
    try:
        _show_progress(runner, result, table, accept)
        summary = _answer(job, result)
    except KeyboardInterrupt:
        print_note(
            f"stopping within {_STOP_SECONDS:.0f} s: groups in flight are cancelled (Ctrl-C: leave now)"
        )
        runner.stop.remote()
        try:
            summary = _answer(job, result, timeout=_STOP_SECONDS)
        except KeyboardInterrupt:
            raise Interrupted(
                "left at once; what was finished is on disk", mend=how_to_resume(job.folder)
            ) from None
    finally:
        table.close()
        if has_finished(job.folder / LEDGER):  # an engine may be done with groups before anybody saw it ready
            accept()
    accept()
    return summary


def _show_progress(runner: Any, result: Any, table: LiveTable, accept: Callable[[], None]) -> None:
    """Keep the table up to date until the run is over; ``accept`` is called once an engine is ready."""
    import ray
    from ray.exceptions import RayError

    ended = -1
    while not ray.wait([result], timeout=_REFRESH_SECONDS)[0]:
        update = runner.progress.remote(ended)
        ready, _ = ray.wait([update, result], num_returns=1)
        if update not in ready:
            return
        try:
            progress = ray.get(update)
        except RayError:  # the answer of ``run`` says why
            return
        if progress.ready:
            accept()
        ended = progress.ended
        table.update(progress.snapshot)


def _answer(job: Job, result: Any, timeout: float | None = None) -> Summary:
    """The runner's summary, or its own error without Ray's wrapping."""
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

    try:
        summary: Summary = ray.get(result, timeout=timeout)
    except GetTimeoutError:
        message = f"the run did not stop within {timeout:.0f} s and was killed"
        raise Interrupted(message, mend=how_to_resume(job.folder)) from None
    except RayActorError as error:
        raise WorkFailed(
            f"the task runner died: {error}".splitlines()[0], mend=how_to_resume(job.folder)
        ) from error
    except RayTaskError as error:
        if isinstance(error.cause, AsynckitError):
            raise error.cause from None
        raise
    return summary


@contextmanager
def _ray(config: RayConfig) -> Iterator[None]:
    """A connection to Ray, ended on the way out; a local Ray is started and stopped with it.

    What Ray has to say of its machines goes to stderr: stdout is for the command's own data.
    """
    with redirect_stdout(sys.stderr):
        connect(config)
        try:
            yield
        finally:
            disconnect()
