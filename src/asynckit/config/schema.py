"""The root of the configuration: one dataclass, one field per section.

Components receive their own section, never the root.
"""

from dataclasses import dataclass, field

from asynckit.bench.config import BenchConfig
from asynckit.cluster.config import RayConfig
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.models.config import ModelConfig
from asynckit.rollout.config import (
    AsyncTrainingConfig,
    LearnerConfig,
    PromptsConfig,
    RewardConfig,
    RolloutConfig,
)
from asynckit.rollout.openai_config import OpenAIConfig
from asynckit.serve.config import ServeConfig
from asynckit.tokenization.config import TokenizationConfig


@dataclass(frozen=True)
class Root:
    """All settings of asynckit, by section."""

    model: ModelConfig = field(default_factory=ModelConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    sampling: SamplingParams = field(default_factory=SamplingParams)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    async_training: AsyncTrainingConfig = field(default_factory=AsyncTrainingConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    simulated: SimulatedConfig = field(default_factory=SimulatedConfig)
    openai: OpenAIConfig = field(default_factory=OpenAIConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    serve: ServeConfig = field(default_factory=ServeConfig, metadata={"identity": False})
    tokenization: TokenizationConfig = field(default_factory=TokenizationConfig, metadata={"identity": False})
    bench: BenchConfig = field(default_factory=BenchConfig, metadata={"identity": False})
