"""The adapters that a worker begins with."""

from pathlib import Path

import pytest

from asynckit.errors import ConfigError
from asynckit.serve.config import ServeConfig
from asynckit.serve.engines import first_adapters


def _folders(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir()
        (root / name / "adapter_config.json").write_text("{}")


def test_named_ones_and_those_of_a_folder(tmp_path: Path) -> None:
    """Both settings add up; a subfolder without an adapter is none."""
    _folders(tmp_path, "b", "c")
    (tmp_path / "notes").mkdir()
    found = first_adapters(ServeConfig(loras=("a=/x=y",), lora_dir=str(tmp_path)))
    assert found == {"a": Path("/x=y"), "b": tmp_path / "b", "c": tmp_path / "c"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ServeConfig(loras=("a",)), "names no adapter"),
        (ServeConfig(loras=("=x",)), "names no adapter"),
        (ServeConfig(loras=("a=x", "a=y")), "two adapters"),
        (ServeConfig(loras=("a=x",), lora=False), "serve.lora is off"),
        (ServeConfig(lora_dir="/nowhere"), "no folder"),
    ],
)
def test_wrong_settings_are_named(settings: ServeConfig, message: str) -> None:
    """Each is an error before anything is loaded."""
    with pytest.raises(ConfigError, match=message):
        first_adapters(settings)
