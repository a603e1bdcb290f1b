"""``asynckit rollout --simulate``: a run in virtual time, and what other settings would make of it."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.models.config import ModelConfig
from asynckit.models.shape import load_shape
from asynckit.models.tokenizer import load_tokenizer
from asynckit.rollout.backlog import places_for
from asynckit.rollout.config import AsyncTrainingConfig, LearnerConfig, PromptsConfig, RolloutConfig
from asynckit.rollout.engines.generators import find_model
from asynckit.rollout.planning.calibration import Calibration, calibrate, with_times
from asynckit.rollout.planning.simulation import Prediction, Setup, simulate
from asynckit.rollout.planning.sweep import Knobs, Sweep, learning_of, sweep
from asynckit.rollout.planning.workload import groups_from_prompts, read_recorded, with_lengths
from asynckit.rollout.prompting.encoding import encode_prompt, require_chat_template
from asynckit.rollout.prompting.prompt_stream import PromptStream
from asynckit.rollout.prompting.prompts import load_prompts

SCHEMA = "asynckit.forecast/1"


@dataclass(frozen=True)
class RecordedRun:
    """A run to take step times and lengths from, with the settings that it had."""

    folder: Path
    engine: EngineConfig
    simulated: SimulatedConfig
    replicas: int


@dataclass(frozen=True)
class Forecast:
    """What ``--simulate`` finds.

    Attributes:
        present: the settings as they are.
        prediction: how the run would go with them.
        groups, n, replicas, max_running: of the run.
        recorded_running: ``engine.max_running`` of the recorded run; None without one.
        calibration: of the step times; None where they come from ``simulated.*``.
        guessed: whether the torch engine would run, but the step times are only those of ``simulated.*``.
        sweep: what other settings would do; None without a learner.
        left_out: settings of the run that the forecast knows nothing of.
    """

    present: Knobs
    prediction: Prediction
    groups: int
    n: int
    replicas: int
    max_running: int
    recorded_running: int | None
    calibration: Calibration | None
    guessed: bool
    sweep: Sweep | None
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the schema's name."""
        found: dict[str, Any] = {
            "schema": SCHEMA,
            "settings": self.present.line(),
            "groups": self.groups,
            "n": self.n,
            "replicas": self.replicas,
            "prediction": _plain(self.prediction),
            "calibration": None,
            "sweep": None,
        }
        if self.calibration:
            found["calibration"] = {**asdict(self.calibration), "error": self.calibration.error}
        if self.sweep:
            found["sweep"] = {
                "groups": self.sweep.groups,
                "tries": [
                    {
                        "settings": each.knobs.line(),
                        "speed_up": each.speed_up,
                        "prediction": _plain(each.prediction),
                    }
                    for each in self.sweep.tries
                ],
                "best": self.sweep.best.knobs.line(),
            }
        return found


def forecast(
    *,
    model: ModelConfig,
    engine: EngineConfig,
    simulated: SimulatedConfig,
    sampling: SamplingParams,
    prompts: PromptsConfig,
    rollout: RolloutConfig,
    async_training: AsyncTrainingConfig,
    learner: LearnerConfig,
    recorded: RecordedRun | None,
    quiet: bool,
) -> Forecast:
    """Simulate a run, and, with a learner, the settings around it.

    Args:
        model: whose tokenizer encodes the prompts.
        engine: batch and cache sizes.
        simulated: step times and lengths.
        sampling: where responses end, and the seed of their lengths.
        prompts: what is generated for.
        rollout: samples, replicas, mode.
        async_training: how far generation may be ahead of the learner.
        learner: batches, and how long they take.
        recorded: a run to fit step times to, and to draw lengths from unless ``simulated.response_tokens``
            says otherwise now than then.
        quiet: show no progress of what has to be fetched.

    Raises:
        AsynckitError: an input is wrong or missing.
    """
    calibration = None
    if recorded:
        calibration = _calibrate(recorded)
        if simulated.response_tokens == recorded.simulated.response_tokens:
            simulated = replace(simulated, response_tokens=f"trace({recorded.folder})")
        simulated = with_times(simulated, calibration.times)
    local = find_model(model, rollout.engine, progress=not quiet)
    tokenizer = load_tokenizer(local, model)
    found = load_prompts(prompts, lambda: tokenizer)
    if any(prompt.messages is not None for prompt in found):
        require_chat_template(tokenizer, model.name)
    if rollout.engine == "torch" and local:
        simulated = replace(simulated, max_model_len=int(load_shape(local, model).max_position_embeddings))
    groups = groups_from_prompts(
        PromptStream(found, epochs=prompts.epochs, shuffle=prompts.shuffle, seed=prompts.seed),
        lambda prompt: encode_prompt(tokenizer, prompt),
        n=rollout.n,
        sampling=sampling,
        total=rollout.total_rollout_steps,
    )
    groups = with_lengths(groups, simulated.response_tokens)
    present = Knobs(rollout.mode, async_training)
    places = places_for(engine.max_running, rollout.n)
    setup = Setup(
        engine, simulated, rollout.replicas, places, simulated.reward_seconds, learning_of(present, learner)
    )
    return Forecast(
        present,
        simulate(setup, groups),
        len(groups),
        rollout.n,
        rollout.replicas,
        engine.max_running,
        recorded.engine.max_running if recorded else None,
        calibration,
        rollout.engine == "torch" and not recorded,
        sweep(setup, groups, present, learner),
        _left_out(rollout),
    )


def _left_out(rollout: RolloutConfig) -> tuple[str, ...]:
    there = {"rollout.filter_groups": rollout.filter_groups, "rollout.environment": rollout.environment}
    return tuple(name for name, value in there.items() if value)


def _calibrate(recorded: RecordedRun) -> Calibration:
    return calibrate(
        read_recorded(recorded.folder),
        engine=recorded.engine,
        simulated=recorded.simulated,
        replicas=recorded.replicas,
    )


def _plain(prediction: Prediction) -> dict[str, Any]:
    return {
        **asdict(prediction),
        "ages": {str(age): tokens for age, tokens in prediction.ages.items()},
        "mean_age": prediction.mean_age,
        "max_age": prediction.max_age,
    }
