"""What the actors of one run need to know, as plain data that travels to them."""

from dataclasses import dataclass
from pathlib import Path

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.models.config import ModelConfig
from asynckit.rollout.config import AsyncTrainingConfig, LearnerConfig, RewardConfig, RolloutConfig
from asynckit.rollout.openai_config import OpenAIConfig


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        model, engine, simulated, openai, sampling, reward, rollout, async_training, learner: sections of the
            configuration.
        identity: digest of the settings that determine what the run produces.
        folder: the run directory, absolute.
        import_paths: folders that rewards and environments may be imported from.
        chat: whether any prompt is a list of messages.
        began: when the run began, seconds on ``time.time()``'s clock.
        attempt: how often the run has been started, this time included.
    """

    model: ModelConfig
    engine: EngineConfig
    simulated: SimulatedConfig
    openai: OpenAIConfig
    sampling: SamplingParams
    reward: RewardConfig
    rollout: RolloutConfig
    async_training: AsyncTrainingConfig
    learner: LearnerConfig
    identity: str
    folder: Path
    import_paths: tuple[str, ...]
    chat: bool
    began: float
    attempt: int
