"""The examples in docs/configuration.md are true."""

import re
from pathlib import Path

import pytest

from asynckit.config.load import load_config
from asynckit.config.show import render_origins
from asynckit.errors import ConfigError

PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's configuration file as ./conf.yaml."""
    monkeypatch.chdir(tmp_path)
    path = Path("conf.yaml")
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    path.write_text(block)
    return path


def test_the_example_file_loads(example: Path) -> None:
    """The file on the page is valid and its interpolation resolves."""
    root = load_config(files=[example], environ={}).root
    assert root.rollout.out == "runs/smollm2-135m-instruct-8"
    assert root.prompts.task == {"max_terms": "2"}


def test_the_shown_origins_are_what_is_printed(example: Path) -> None:
    """The line with all layers is real output."""
    loaded = load_config(files=[example], environ={"ASYNCKIT_ROLLOUT__N": "5"}, overrides=["rollout.n=6"])
    assert render_origins(loaded, "rollout.n") in PAGE


def test_every_value_in_the_table_loads() -> None:
    """Each example of a value is accepted."""
    table = PAGE.partition("## Values")[2].partition("## Environment")[0]
    words = re.findall(r"`([a-z_.]+=[^`]*)`", table)
    assert len(words) >= 10
    for word in words:
        load_config(overrides=[word], environ={})


def test_the_errors_in_the_table_are_what_is_raised() -> None:
    """Each error for an argument is the one that the page prints."""
    table = PAGE.partition("## Errors")[2]
    rows = re.findall(r"^\| `'?([a-z.]+=[^`']*)'?` \| (.*) \|$", table, re.MULTILINE)
    assert len(rows) >= 4
    for word, printed in rows:
        with pytest.raises(ConfigError) as caught:
            load_config(overrides=[word], environ={})
        assert printed.lstrip("… ") in str(caught.value)
