"""Loading: layers, histories, interpolation, digest."""

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynckit.config.load import Flag, LoadedConfig, as_yaml, load_config
from asynckit.config.schema import Root


def written(folder: Path, text: str, name: str = "conf.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def load(*overrides: str, files: Iterable[Path] = (), **variables: str) -> LoadedConfig:
    return load_config(files=list(files), overrides=overrides, environ=variables)


def test_defaults_are_the_schemas() -> None:
    """With no layer given, the configuration is what the dataclasses say."""
    loaded = load_config(environ={})
    assert loaded.root == Root()
    assert loaded.histories["rollout.n"][0].kind == "default"


def test_later_layers_win_and_every_value_is_remembered(tmp_path: Path) -> None:
    """The documented order of layers, with the exact place of each value."""
    first = written(tmp_path, "# samples\nrollout:\n  n: 2\n", "first.yaml")
    second = written(tmp_path, "rollout: {n: 3}\n", "second.yaml")
    loaded = load_config(
        files=[first, second],
        environ={"ASYNCKIT_ROLLOUT__N": "5", "HOME": "/nowhere"},
        overrides=["rollout.n=6", "rollout.n=7"],
        flags=[Flag("rollout.n", 8, "-n")],
    )
    assert loaded.root.rollout.n == 8
    assert [(each.kind, each.where, each.value) for each in loaded.histories["rollout.n"]] == [
        ("default", "default", 4),
        ("file", f"{first}:3:6", 2),
        ("file", f"{second}:1:14", 3),
        ("environment", "ASYNCKIT_ROLLOUT__N", 5),
        ("argument", "argument 'rollout.n=6'", 6),
        ("argument", "argument 'rollout.n=7'", 7),
        ("flag", "-n", 8),
    ]


LAYERS = ("file", "environment", "argument", "flag")
KEYS = ("rollout.n", "prompts.size", "engine.block_size")
GIVEN = st.lists(st.tuples(st.sampled_from(LAYERS), st.sampled_from(KEYS), st.integers(1, 1024)), max_size=12)


@settings(deadline=None)
@given(GIVEN)
def test_the_last_layer_wins_whatever_is_set(given_settings: list[tuple[str, str, int]]) -> None:
    """For any settings in any layers: histories are complete and in order, and the newest value wins."""
    # One variable can be set only once, so that of several the last is given.
    variables = {key: value for layer, key, value in given_settings if layer == "environment"}
    ordered = [
        each
        for each in sorted(given_settings, key=lambda each: LAYERS.index(each[0]))
        if each[0] != "environment"
    ]
    with TemporaryDirectory() as folder:
        files = [
            written(Path(folder), f"{key.replace('.', ': {')}: {value}}}\n", f"{index}.yaml")
            for index, (layer, key, value) in enumerate(ordered)
            if layer == "file"
        ]
        loaded = load_config(
            files=files,
            environ={
                f"ASYNCKIT_{key.replace('.', '__').upper()}": str(value) for key, value in variables.items()
            },
            overrides=[f"{key}={value}" for layer, key, value in ordered if layer == "argument"],
            flags=[Flag(key, value, "--flag") for layer, key, value in ordered if layer == "flag"],
        )
    for key in KEYS:
        history = loaded.histories[key]
        expected = [(layer, value) for layer, name, value in ordered if name == key]
        if key in variables:
            files_given = sum(layer == "file" for layer, _ in expected)
            expected.insert(files_given, ("environment", variables[key]))
        assert [(each.kind, each.value) for each in history[1:]] == expected
        section, leaf = key.split(".")
        assert getattr(getattr(loaded.root, section), leaf) == history[-1].value


def test_sections_are_real_frozen_dataclasses() -> None:
    """Nothing of OmegaConf leaves the loader, and nobody can change a configuration that has a digest."""
    root = load("sampling.stop=[a,b]", "sampling.stop_token_ids=[1, 2]").root
    assert root.sampling.stop == ("a", "b")
    assert type(root.sampling.stop) is tuple
    assert root.sampling.stop_token_ids == (1, 2)
    with pytest.raises(FrozenInstanceError):
        root.rollout.n = 9  # type: ignore[misc]


@pytest.mark.parametrize(
    ("word", "section", "key", "value"),
    [
        ("sampling.temperature=1", "sampling", "temperature", 1.0),
        ("sampling.temperature=1e-1", "sampling", "temperature", 0.1),
        ("engine.threads=null", "engine", "threads", None),
        ("rollout.out=", "rollout", "out", None),
        ("rollout.out=null", "rollout", "out", None),
        ("rollout.out='null'", "rollout", "out", "null"),
        ("model.revision=0123456", "model", "revision", "0123456"),
        ("model.name=true", "model", "name", "true"),
        ("model.name=a=b", "model", "name", "a=b"),
        ("prompts.system=Rules: be brief # and kind", "prompts", "system", "Rules: be brief # and kind"),
        ('prompts.system="[INST] \\"hi\\""', "prompts", "system", '[INST] "hi"'),
        (r"prompts.system=costs \${x}", "prompts", "system", "costs ${x}"),
        ("model[name]=m", "model", "name", "m"),
        (r"prompts.task.a\.b=1", "prompts", "task", {"a.b": "1"}),
        ("prompts.sources={a.jsonl: 2, gym:b: 0.5}", "prompts", "sources", {"a.jsonl": 2.0, "gym:b": 0.5}),
        (r"prompts.sources.a\.jsonl=2", "prompts", "sources", {"a.jsonl": 2.0}),
        ('prompts.sources={"gym:b?c=1&d=2": 1}', "prompts", "sources", {"gym:b?c=1&d=2": 1.0}),
        (" rollout.n = 8", "rollout", "n", 8),
        ("rollout={n: 8}", "rollout", "n", 8),
        ("sampling.ignore_eos=true", "sampling", "ignore_eos", True),
        ("sampling.stop=[]", "sampling", "stop", ()),
    ],
)
def test_a_word_means_what_it_says(word: str, section: str, key: str, value: object) -> None:
    """Arguments are read by the declared type; where text is declared, what was typed is the text."""
    found = getattr(getattr(load(word).root, section), key)
    assert found == value
    assert type(found) is type(value)


def test_entries_of_a_mapping_are_merged_over_layers(tmp_path: Path) -> None:
    """Settings of a generated task add up, numbers become their strings, each entry has its own history."""
    file = written(tmp_path, "prompts:\n  task:\n    max_terms: 2\n    fast: true\n")
    loaded = load(
        "prompts.task.max_terms=3", "prompts.task.scale=1e3", files=[file], ASYNCKIT_PROMPTS__TASK__A="x"
    )
    assert loaded.root.prompts.task == {"max_terms": "3", "fast": "true", "a": "x", "scale": "1e3"}
    assert [each.value for each in loaded.histories["prompts.task.max_terms"]] == ["2", "3"]
    assert "prompts.task" not in loaded.histories
    assert load("prompts.task={}").root.prompts.task == {}


def test_variables_that_are_no_settings_are_left_alone() -> None:
    """Other variables with our prefix may exist; names are case-insensitive, as people write them."""
    loaded = load(ASYNCKIT_CACHE="x", asynckit_rollout__n="3", OTHER__N="4")
    assert loaded.root.rollout.n == 3
    assert loaded.histories["rollout.n"][-1].where == "asynckit_rollout__n"


def test_interpolations_are_resolved_between_the_winners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """${key} sees the final values of all layers; histories keep what was written."""
    monkeypatch.setenv("SAMPLES", "6")
    file = written(
        tmp_path, "rollout:\n  out: runs/${model.name}-${.n}\n  n: 2\nprompts: {size: '${rollout.n}'}\n"
    )
    loaded = load(
        "rollout.n=${oc.env:SAMPLES}", "sampling.stop=['${model.name}', b]", "model.name=m", files=[file]
    )
    assert loaded.root.rollout.out == "runs/m-6"
    assert loaded.root.prompts.size == 6
    assert loaded.root.sampling.stop == ("m", "b")
    assert loaded.histories["rollout.out"][-1].value == "runs/${model.name}-${.n}"


def test_an_overridden_interpolation_is_not_resolved() -> None:
    """A file may refer to a variable that this machine lacks, as long as something else wins."""
    assert load("model.name=${oc.env:NO_SUCH_VARIABLE_HERE}", "model.name=m").root.model.name == "m"


def test_flags_may_be_paths_and_tuples() -> None:
    """Typer hands over paths and tuples; the schema wants strings."""
    flags = [Flag("rollout.out", Path("runs/a"), "--out"), Flag("sampling.stop", ("x",), "--stop")]
    root = load_config(flags=flags, environ={}).root
    assert root.rollout.out == "runs/a"
    assert root.sampling.stop == ("x",)


@pytest.mark.parametrize("text", ["", "# nothing\n", "rollout:\n", "{}\n", "\ufeffrollout:\n"])
def test_files_that_set_nothing_are_fine(tmp_path: Path, text: str) -> None:
    """An empty file, or a section whose keys are all commented out, changes nothing."""
    assert load(files=[written(tmp_path, text)]).root == Root()


def test_yaml_anchors_keep_their_places(tmp_path: Path) -> None:
    """Values that a file shares by anchors are set, and their origin is where they are written."""
    file = written(
        tmp_path,
        "rollout: &r\n  <<: {n: 3, replicas: 2}\n  n: 4\nengine: {threads: &t 5}\nray: {num_cpus: *t}\n",
    )
    loaded = load(files=[file])
    assert (loaded.root.rollout.n, loaded.root.rollout.replicas, loaded.root.ray.num_cpus) == (4, 2, 5)
    assert loaded.histories["rollout.replicas"][-1].where == f"{file}:2:24"
    assert loaded.histories["ray.num_cpus"][-1].where == f"{file}:4:19"


def test_the_digest_depends_on_values_alone(tmp_path: Path) -> None:
    """Two ways to the same configuration have the same digest; another value has another."""
    by_file = load(files=[written(tmp_path, "rollout: {n: 8}\nsampling: {temperature: 1}\n")])
    by_flag = load_config(flags=[Flag("rollout.n", 8, "-n")], environ={})
    assert by_file.digest == by_flag.digest
    assert len(by_file.digest) == 16
    assert by_file.digest != load("rollout.n=9").digest


TEXT = st.text(st.characters(codec="utf-8"), max_size=20) | st.text(
    "${}\\:.[]'\" #?~\n\t0e1_yn-", max_size=12
)


@settings(max_examples=40, deadline=None)
@given(
    system=TEXT.filter(lambda text: text != "???"),
    task=st.dictionaries(TEXT.filter(bool), TEXT.filter(lambda text: text != "???"), max_size=3),
    timeout=st.floats(0, exclude_min=True, allow_infinity=False, allow_nan=False),
    seed=st.integers(0, 2**63 - 1),
)
def test_a_dumped_configuration_loads_to_itself(
    system: str, task: dict[str, str], timeout: float, seed: int
) -> None:
    """The file that a run writes replays to the same configuration, whatever text is in it."""
    values: dict[str, Any] = {
        "prompts": {"system": system, "task": task},
        "reward": {"timeout": timeout},
        "sampling": {"seed": seed, "stop": [system]},
    }
    with TemporaryDirectory() as folder:
        first = load(files=[written(Path(folder), as_yaml(values), "first.yaml")])
        again = load(files=[written(Path(folder), as_yaml(first.to_dict()), "again.yaml")])
    assert first.root.prompts.system == system
    assert first.root.prompts.task == task
    assert again.root == first.root
    assert again.digest == first.digest


@dataclass(frozen=True)
class Nested:
    """A section inside a section."""

    rate: float = 1.0
    names: list[str] = field(default_factory=lambda: ["a"])


@dataclass(frozen=True)
class Section:
    """A section with a section, a required value and a mapping with a default."""

    nested: Nested = field(default_factory=Nested)
    needed: int = "???"  # type: ignore[assignment]
    weights: dict[str, float] = field(default_factory=lambda: {"a": 1.0})


@dataclass(frozen=True)
class Other:
    """A schema of other shapes than today's root has."""

    section: Section = field(default_factory=Section)


def test_other_shapes_of_schema_work() -> None:
    """Nested sections, lists, required values and mappings with defaults, for the sections still to come."""
    overrides = [
        "section.needed=1",
        "section.nested.rate=2",
        "section.nested.names=[b]",
        "section.weights.b=3",
    ]
    loaded = load_config(overrides=overrides, environ={}, schema=Other)
    assert loaded.root == Other(Section(Nested(2.0, ["b"]), 1, {"a": 1.0, "b": 3.0}))  # type: ignore[comparison-overlap]


def test_importing_the_loader_is_light() -> None:
    """`asynckit config show` must answer at once: none of the heavy packages may come along."""
    code = (
        "import sys; from asynckit.config.load import load_config; load_config(environ={});"
        "print(*{'torch', 'ray', 'transformers', 'zmq', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
