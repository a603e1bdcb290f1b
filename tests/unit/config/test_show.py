"""Showing the configuration: whole, in part, with origins, and never a secret."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from asynckit.config.load import Flag, LoadedConfig, load_config
from asynckit.config.show import render_json, render_origins, render_yaml
from asynckit.errors import ConfigError


def load(*overrides: str) -> LoadedConfig:
    return load_config(overrides=overrides, environ={})


def test_the_whole_configuration_is_a_file_that_loads(tmp_path: Path) -> None:
    """What `config show` prints can be saved and given to -c."""
    loaded = load("rollout.n=8", r"prompts.system=\${x}", "sampling.stop=[a]", "prompts.task.a=1e3")
    file = tmp_path / "shown.yaml"
    file.write_text(render_yaml(loaded))
    again = load_config(files=[file], environ={})
    assert again.root == loaded.root
    assert json.loads(render_json(loaded)) == loaded.to_dict()


@pytest.mark.parametrize(
    ("selection", "as_yaml", "as_json"),
    [
        ("ray", "address: local\nnum_cpus: null\n", {"address": "local", "num_cpus": None}),
        ("rollout.n", "8\n", 8),
        ("rollout.out", "null\n", None),
        ("model.name", "m 1\n", "m 1"),
        ("model.use_fast", "true\n", True),
        ("sampling.stop", "- a\n", ["a"]),
        ("prompts.task", "a: '1'\n", {"a": "1"}),
        ("prompts.task.a", "1\n", "1"),
    ],
)
def test_a_section_or_a_key_can_be_selected(selection: str, as_yaml: str, as_json: object) -> None:
    """A shell script reads one value; a string comes without quotes."""
    loaded = load("rollout.n=8", "model.name=m 1", "sampling.stop=[a]", "prompts.task.a=1")
    assert render_yaml(loaded, selection) == as_yaml
    assert json.loads(render_json(loaded, selection)) == as_json


@pytest.mark.parametrize(
    ("selection", "mend"),
    [
        ("rolout", "did you mean rollout?"),
        ("rollout.m", "did you mean rollout.n?"),
        ("temperature", "did you mean sampling.temperature?"),
        ("rollout.n.m", "did you mean rollout.n"),
        ("rollout.", "did you mean rollout.n?"),
    ],
)
def test_an_unknown_selection_is_refused(selection: str, mend: str) -> None:
    """A misspelt key prints no empty answer but what was probably meant."""
    for render in (render_yaml, render_json, render_origins):
        with pytest.raises(ConfigError, match="there is no section or key") as caught:
            render(load(), selection)
        assert mend in caught.value.mend


def test_origins_tell_the_history_of_every_key(tmp_path: Path) -> None:
    """One line per key: the resolved value, who set it, and what it replaced, newest first."""
    file = tmp_path / "conf.yaml"
    file.write_text("rollout:\n  n: 6\n  out: runs/${.n}\n")
    loaded = load_config(files=[file], flags=[Flag("rollout.n", 8, "-n")], environ={})
    lines = render_origins(loaded, "rollout").splitlines()
    assert lines[0] == f"rollout.n: 8  # -n; before: 6 ({file}:2:6), 4 (default)"
    assert lines[1] == f'rollout.out: "runs/8"  # {file}:3:8; before: null (default)'
    assert all(line.startswith("rollout.") for line in lines)
    assert render_origins(loaded, "rollout.n").splitlines() == lines[:1]
    assert len(render_origins(loaded).splitlines()) == len(loaded.histories)


def test_origins_as_json() -> None:
    """The same for programs, oldest first."""
    shown = json.loads(render_origins(load("rollout.n=8"), "rollout.n", as_json=True))
    assert shown == {
        "rollout.n": {
            "value": 8,
            "origins": [
                {"kind": "default", "where": "default", "value": 4},
                {"kind": "argument", "where": "argument 'rollout.n=8'", "value": 8},
            ],
        }
    }


def test_an_entry_may_have_dots_in_its_name() -> None:
    """A key is found again under the name by which its history is kept."""
    loaded = load(r"prompts.task.a\.b=1")
    assert (
        render_origins(loaded, "prompts.task")
        == "prompts.task.a.b: \"1\"  # argument 'prompts.task.a\\\\.b=1'\n"
    )
    assert render_yaml(loaded, "prompts.task.a.b") == "1\n"


@dataclass(frozen=True)
class Api:
    """A section with secrets of every shape."""

    key: str | None = field(default=None, metadata={"secret": True})
    keys: tuple[str, ...] = field(default=(), metadata={"secret": True})
    tokens: dict[str, str] = field(default_factory=dict, metadata={"secret": True})
    port: int = 80


@dataclass(frozen=True)
class WithSecrets:
    """A schema with secrets."""

    api: Api = field(default_factory=Api)


def test_secrets_are_masked_wherever_they_are_shown() -> None:
    """No rendering holds a secret, in values, histories or places; equal secrets have equal fingerprints."""
    words = ["api.key=hunter2", "api.keys=[hunter2, hunter3]", "api.tokens.a=hunter2", "api.key=hunter2"]
    loaded = load_config(overrides=words, environ={}, schema=WithSecrets)
    fingerprint = "***" + hashlib.sha256(b"hunter2").hexdigest()[:8]
    masked = loaded.to_dict(mask=True)["api"]
    assert masked["key"] == masked["keys"][0] == masked["tokens"]["a"] == fingerprint
    assert masked["keys"][1] != fingerprint
    assert masked["port"] == 80
    shown = [
        render_yaml(loaded),
        render_json(loaded),
        render_origins(loaded),
        render_origins(loaded, as_json=True),
    ]
    for text in (*shown, render_yaml(loaded, "api.key")):
        assert "hunter" not in text
        assert fingerprint in text
    assert loaded.to_dict()["api"]["key"] == "hunter2"


def test_a_secret_that_is_not_set_is_shown_as_such() -> None:
    """Nobody has to guess whether a fingerprint stands for nothing."""
    assert load_config(environ={}, schema=WithSecrets).to_dict(mask=True)["api"]["key"] is None
