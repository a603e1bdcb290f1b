"""Jobs for tests of the parts that are given one."""

from pathlib import Path

from asynckit.config.load import load_config
from asynckit.rollout.job import Job


def make_job(*settings: str, folder: Path = Path("run"), chat: bool = False) -> Job:
    """A run with these settings, whose modules are imported from its folder."""
    root = load_config(overrides=settings, environ={}).root
    return Job(
        model=root.model,
        engine=root.engine,
        simulated=root.simulated,
        openai=root.openai,
        sampling=root.sampling,
        reward=root.reward,
        rollout=root.rollout,
        async_training=root.async_training,
        learner=root.learner,
        identity="identity",
        folder=folder,
        import_paths=(str(folder),),
        chat=chat,
        began=0.0,
        attempt=1,
    )
