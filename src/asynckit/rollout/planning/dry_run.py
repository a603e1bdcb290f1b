"""``asynckit rollout --dry-run``: everything that can be checked without generating, as one list.

Each check goes as far as it can; what a failed one would have been needed for is skipped and says so. Nothing
is written, but a model that is not on this machine yet is fetched into the cache, as the run would fetch it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from asynckit.cluster.config import RayConfig
from asynckit.engine.admission import check_room
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.request import Request
from asynckit.engine.scheduler import Scheduler
from asynckit.engine.simulated import SimulatedEngine, make_scheduler
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.engine.validate import check_request
from asynckit.errors import ConfigError, InputError, RequestError
from asynckit.models.config import ModelConfig
from asynckit.models.shape import load_shape
from asynckit.models.tokenizer import eos_token_ids, load_tokenizer
from asynckit.rollout.config import (
    AsyncTrainingConfig,
    LearnerConfig,
    PromptsConfig,
    RewardConfig,
    RolloutConfig,
)
from asynckit.rollout.engines.generators import find_model
from asynckit.rollout.episodes.environments import check_environment
from asynckit.rollout.observing.loggers import require_loggers
from asynckit.rollout.openai_config import OpenAIConfig
from asynckit.rollout.planning.findings import Findings
from asynckit.rollout.planning.resource_checks import (
    OpenedModel,
    check_disk,
    check_engine,
    check_memory,
    check_ray,
)
from asynckit.rollout.planning.reward_trial import try_reward
from asynckit.rollout.planning.sweep import Knobs, learning_of
from asynckit.rollout.prompting.encoding import encode_prompt, require_chat_template
from asynckit.rollout.prompting.prompts import Prompt, load_prompts
from asynckit.rollout.run import refuse_contradictions
from asynckit.rollout.run_directory import RunDirectory
from asynckit.rollout.scoring.reward_loading import choose_rewards, weights_of
from asynckit.rollout.scoring.rewards import Failure, RewardInput


def dry_run(
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
    identity: str,
    overwrite: bool,
    resume: bool,
    quiet: bool,
) -> Findings:
    """Check a run's settings, inputs and surroundings; see ``run_rollout`` for the arguments."""
    found = Findings()
    _check_settings(found, engine, simulated, Knobs(rollout.mode, async_training), learner, rollout)
    its_prompts = found.attempt(
        "prompts", lambda: load_prompts(prompts, lambda: _tokenizer(model, rollout, quiet=quiet))
    )
    groups = rollout.total_rollout_steps or len(its_prompts or ()) * prompts.epochs
    if its_prompts is not None:
        found.ok("prompts", _count_of(its_prompts, groups, rollout))
    its_model = found.attempt("model", lambda: _open(model, rollout, quiet=quiet))
    if its_model is not None:
        place = f"in {its_model.local.path}" if its_model.local else "(its tokenizer: no weights are needed)"
        found.ok("model", f"{model.name} {place}")
    check_engine(found, its_model, openai, sampling, rollout)
    encoded = _check_lengths(found, its_prompts, its_model, model, engine, simulated, sampling, rollout)
    _check_reward(found, its_prompts, reward, rollout)
    _check_directory(found, rollout, identity, overwrite=overwrite, resume=resume)
    check_disk(found, encoded, groups, sampling.max_tokens, rollout)
    check_memory(found, its_model, engine, rollout)
    check_ray(found, engine, rollout, ray)
    return found


def _check_settings(
    found: Findings,
    engine: EngineConfig,
    simulated: SimulatedConfig,
    knobs: Knobs,
    learner: LearnerConfig,
    rollout: RolloutConfig,
) -> None:
    """What the loader can't know: distributions, and settings of the simulated engine."""
    before = len(found.found)
    learning = found.attempt("settings", lambda: learning_of(knobs, learner))
    found.attempt("settings", lambda: refuse_contradictions(rollout, learner))
    found.attempt("settings", lambda: require_loggers(rollout.loggers))
    if rollout.engine == "simulated":
        found.attempt("settings", lambda: SimulatedEngine.load(engine, simulated))
    if len(found.found) > before:
        return
    text = f"{rollout.replicas} replicas of the engine {rollout.engine}, "
    if learning:
        rules = learning.schedule
        text += (
            f"a version every {rules.groups_per_version} groups in batches of {rules.batch}, "
            f"tokens at most {rules.max_staleness} versions old"
        )
    else:
        text += "no learner"
    found.ok("settings", text)


def _tokenizer(model: ModelConfig, rollout: RolloutConfig, *, quiet: bool) -> Any:
    return load_tokenizer(find_model(model, rollout.engine, progress=not quiet), model)


def _count_of(prompts: Sequence[Prompt], groups: int, rollout: RolloutConfig) -> str:
    return f"{len(prompts):,} prompts; {groups:,} groups of {rollout.n}, {groups * rollout.n:,} samples"


def _open(model: ModelConfig, rollout: RolloutConfig, *, quiet: bool) -> OpenedModel:
    local = find_model(model, rollout.engine, progress=not quiet)
    tokenizer = load_tokenizer(local, model)
    if local is None:
        return OpenedModel(None, tokenizer, None)
    shape = load_shape(local, model)
    if rollout.engine == "torch":
        from asynckit.engine.model import refuse_unsupported

        refuse_unsupported(shape, local.path)
    return OpenedModel(local, tokenizer, shape)


def _check_lengths(
    found: Findings,
    prompts: Sequence[Prompt] | None,
    model: OpenedModel | None,
    config: ModelConfig,
    engine: EngineConfig,
    simulated: SimulatedConfig,
    sampling: SamplingParams,
    rollout: RolloutConfig,
) -> list[tuple[int, ...]] | None:
    """Encode the prompts and ask the engine's own rules which it would refuse; returns the token ids."""
    check = "lengths"
    if prompts is None or model is None:
        found.skip(check, "needs the prompts and the model")
        return None

    def encode() -> list[tuple[int, ...]]:
        if any(prompt.messages is not None for prompt in prompts):
            require_chat_template(model.tokenizer, config.name)
        return [encode_prompt(model.tokenizer, prompt) for prompt in prompts]

    encoded = found.attempt(check, encode)
    if rollout.engine == "openai":
        found.skip(check, "what is too long is for the servers to say")
        return encoded
    scheduler = found.attempt(check, lambda: _scheduler(engine, simulated, model.shape, rollout))
    if encoded is None or scheduler is None:
        return encoded
    first = Request("sampling", encoded[0], sampling, rollout.n)
    if found.attempt(check, lambda: _check_sampling(first, model, simulated)) is None:
        return encoded
    refused = []
    for prompt, ids in zip(prompts, encoded, strict=True):
        try:
            check_room(Request(prompt.where, ids, sampling, rollout.n), scheduler)
        except RequestError as error:
            refused.append((prompt, error))
    _report_lengths(found, encoded, refused, scheduler, sampling, rollout)
    return encoded


def _scheduler(
    engine: EngineConfig, simulated: SimulatedConfig, shape: Any, rollout: RolloutConfig
) -> Scheduler:
    """A scheduler with the limits of the run's engines, and no more cache than one sample can use."""
    own = simulated.max_model_len if rollout.engine == "simulated" else int(shape.max_position_embeddings)
    if engine.max_model_len and engine.max_model_len > own and rollout.engine != "simulated":
        raise ConfigError(
            f"engine.max_model_len is {engine.max_model_len}, but the model was made for {own} tokens",
            where="engine.max_model_len",
            mend=f"set it to {own} or less",
        )
    if engine.kv_cache_tokens:
        most = (engine.max_model_len or own) + engine.block_size
        engine = replace(engine, kv_cache_tokens=min(engine.kv_cache_tokens, most))
    return make_scheduler(replace(engine, max_running=1), replace(simulated, max_model_len=own))


def _check_sampling(request: Request, model: OpenedModel, simulated: SimulatedConfig) -> bool:
    if model.local is None:
        vocabulary, eos_ids = simulated.vocabulary, frozenset({simulated.eos_token_id})
    else:
        vocabulary = int(model.shape.vocab_size)
        eos_ids = eos_token_ids(model.local.path, model.tokenizer)
    check_request(request, vocabulary=vocabulary, eos_ids=eos_ids)
    return True


def _report_lengths(
    found: Findings,
    encoded: Sequence[tuple[int, ...]],
    refused: Sequence[tuple[Prompt, RequestError]],
    scheduler: Scheduler,
    sampling: SamplingParams,
    rollout: RolloutConfig,
) -> None:
    check = "lengths"
    lengths = sorted(map(len, encoded))
    longest = scheduler.max_model_len
    cut = sum(longest - sampling.max_tokens < length < longest for length in lengths)
    text = (
        f"prompts p50 {lengths[(len(lengths) - 1) // 2]}, longest {lengths[-1]} tokens; responses up to "
        f"{sampling.max_tokens}; together at most {longest}"
    )
    found.ok(check, text)
    if cut:
        found.note(check, f"{cut} prompts leave less than sampling.max_tokens for their responses")
    if not refused:
        return
    prompt, error = refused[0]
    text = f"{len(refused)} of {len(encoded)} prompts would be refused, the first one because {error.message}"
    if len(refused) * rollout.n <= rollout.max_failures:
        found.note(check, text)
    else:
        found.bad(check, InputError(text, where=prompt.where, mend=error.mend))


def _check_reward(
    found: Findings, prompts: Sequence[Prompt] | None, reward: RewardConfig, rollout: RolloutConfig
) -> None:
    """Load the reward in another process and score a stand-in response; load the environment, if any."""
    check = "reward"
    if prompts is None:
        found.skip(check, "needs the prompts")
        return
    chosen = found.attempt(check, lambda: choose_rewards(reward, prompts))
    names, here = tuple(weights_of(chosen or reward)), (str(Path.cwd()),)
    found.attempt("environment", lambda: check_environment(rollout.environment, names, prompts, here))
    for name in weights_of(chosen) if chosen else ():
        _try_reward(found, name, prompts[0], reward, rollout)


def _try_reward(
    found: Findings, name: str, prompt: Prompt, reward: RewardConfig, rollout: RolloutConfig
) -> None:
    check = "reward"
    stand_in = "0" if prompt.ground_truth is None else str(prompt.ground_truth)
    score = found.attempt(
        check,
        lambda: try_reward(
            name,
            RewardInput(stand_in, prompt),
            import_paths=(str(Path.cwd()),),
            args=reward.args,
            load_seconds=min(rollout.startup_timeout, 120.0),
            call_seconds=reward.timeout,
        ),
    )
    if isinstance(score, Failure):
        found.note(check, f"{name} fails for the response {stand_in[:40]!r}: {score.error}")
    elif score is not None:
        found.ok(check, f"{name} gives {score.value:g} for the response {stand_in[:40]!r} to {prompt.where}")


def _check_directory(
    found: Findings, rollout: RolloutConfig, identity: str, *, overwrite: bool, resume: bool
) -> None:
    check = "run directory"
    if not rollout.out:
        found.ok(check, "runs/<date>-<time>")
        return
    out = rollout.out
    if resume:
        if found.attempt(check, lambda: RunDirectory.check_resume(out, identity=identity)):
            found.ok(check, f"{out} holds a run that can go on with these settings")
    elif directory := found.attempt(check, lambda: RunDirectory.check(out, overwrite=overwrite)):
        there = directory.path.is_dir() and any(directory.path.iterdir())
        found.ok(check, f"{out}, " + ("whose run is replaced" if there else "which is new"))
