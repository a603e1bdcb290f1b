"""What a run that goes on may not have changed, by name."""

import json
from pathlib import Path

import pytest

from asynckit.config.load import load_config
from asynckit.config.recorded import changed_settings
from asynckit.rollout.run_directory import RunDirectory

BEGUN = ("rollout.n=2", "rollout.engine=openai", "openai.api_key=s3cret", "prompts.task.a=1")


def begun(folder: Path, *settings: str) -> Path:
    """The config.json of a run that was begun with these settings."""
    loaded = load_config(overrides=settings, environ={})
    run = RunDirectory.create(folder / "run", overwrite=False)
    run.write_config(loaded.to_replay(), loaded.digest, loaded.identity)
    return run.config_path


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ((), []),
        (("rollout.n=3",), ["rollout.n"]),
        (("sampling.temperature=0.5", "rollout.n=3"), ["rollout.n", "sampling.temperature"]),
        (("rollout.replicas=2", "rollout.out=elsewhere", "ray.num_cpus=4"), []),
        (("simulated.vocabulary=300",), []),
        (("openai.model=other",), ["openai.model"]),
        (("openai.api_key=another", "openai.base_urls=http://there:1"), []),
        (("prompts.task.b=2",), ["prompts.task.b"]),
    ],
)
def test_what_would_make_other_records_is_named(
    tmp_path: Path, settings: tuple[str, ...], changed: list[str]
) -> None:
    """All of it, and nothing else: not how a run goes, not what isn't used, not a key that is masked."""
    path = begun(tmp_path, *BEGUN)
    assert "s3cret" not in path.read_text()
    now = load_config(overrides=[*BEGUN, *settings], environ={}).root
    assert changed_settings(path, now) == changed


def test_a_masked_key_is_no_change(tmp_path: Path) -> None:
    """Neither where the settings are read back from the file itself, nor without any key."""
    path = begun(tmp_path, *BEGUN)
    assert changed_settings(path, load_config(files=[path], environ={}).root) == []
    without = json.loads(path.read_text())
    without["config"]["openai"]["api_key"] = None
    other = tmp_path / "other.json"
    other.write_text(json.dumps(without))
    assert changed_settings(path, load_config(files=[other], environ={}).root) == []
