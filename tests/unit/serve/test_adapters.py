"""Adapters of the server: named without doubt, from allowed folders only, refused with the flag at fault."""

import os
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lora_adapters import save_random_adapter

from asynckit.engine.config import EngineConfig
from asynckit.engine.simulated_adapters import SimulatedAdapters
from asynckit.errors import ConfigError, InputError
from asynckit.serve.adapters import (
    LONGEST_NAME,
    LONGEST_PATH,
    GivenAdapter,
    adapter_roots,
    allowed_folder,
    check_name,
    given_adapters,
    register_all,
    weights_roots,
)
from asynckit.serve.config import ServeConfig


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return save_random_adapter(tmp_path / "adapters" / "sql")


def begin(engine: EngineConfig | None = None, **options: Any) -> tuple[GivenAdapter, ...]:
    return given_adapters(ServeConfig(**options), engine or EngineConfig(), "base")


def roots_of(**options: Any) -> tuple[Path, ...]:
    return adapter_roots(ServeConfig(**options), begin(**options))


def test_adapters_come_from_flags_and_from_a_folder(adapter: Path) -> None:
    """Those of --lora first, then the subfolders that hold adapters, by name; others are left alone."""
    parent = adapter.parent
    save_random_adapter(parent / "chat")
    (parent / "notes").mkdir()
    (parent / "README.md").write_text("mine")
    given = begin(loras=(f"other={adapter}",), lora_dir=str(parent))
    assert [(each.name, each.folder) for each in given] == [
        ("other", adapter),
        ("chat", parent / "chat"),
        ("sql", adapter),
    ]


def test_a_folder_may_have_an_equals_sign_and_be_relative(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first equals sign ends the name."""
    adapter.rename(adapter.parent / "a=b")
    monkeypatch.chdir(adapter.parent)
    (given,) = begin(loras=("sql=a=b",))
    assert (given.name, given.folder) == ("sql", adapter.parent / "a=b")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("sql", "NAME=FOLDER"),
        ("sql=", "NAME=FOLDER"),
        ("={folder}", "1 to 128 characters"),
        (f"{'x' * 129}={{folder}}", "1 to 128 characters"),
        (" sql={folder}", "printable"),
        ("s\nql={folder}", "printable"),
        ("s\u202eql={folder}", "printable"),
        ("s\udcffql={folder}", "printable"),
        ("base={folder}", "the model itself has this name"),
        ("sql=~nobody-of-this-name/x", "whose home"),
    ],
)
def test_impossible_names_are_refused_with_the_flag(adapter: Path, entry: str, words: str) -> None:
    """A name must be unmistakable in requests, logs and metrics."""
    with pytest.raises(ConfigError, match=words) as refusal:
        begin(loras=(entry.format(folder=adapter),))
    assert refusal.value.where.startswith("--lora ")


def test_two_adapters_of_one_name_are_refused(adapter: Path) -> None:
    """Both places are named."""
    with pytest.raises(ConfigError, match=r"--lora sql=.* gives the same name") as refusal:
        begin(loras=(f"sql={adapter}",), lora_dir=str(adapter.parent))
    assert refusal.value.where == f"--lora-dir {adapter.parent}"


@pytest.mark.parametrize(
    ("damage", "words", "mend"),
    [
        (lambda folder: (folder / "adapter_config.json").unlink(), r"no adapter_config\.json", "PEFT"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "not valid JSON", "again"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "not the config of a LoRA", ""),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has no adapter_model", "PEFT"),
        (lambda folder: (folder / "adapter_model.safetensors").write_text("junk"), "not a safetensors", ""),
        (
            lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"),
            "pickled and never loaded",
            "convert it",
        ),
        (
            lambda folder: (folder / "adapter_model.safetensors").rename(folder / "x.pt"),
            "pickled",
            "convert it",
        ),
    ],
)
def test_broken_folders_are_refused_with_the_flag(
    adapter: Path, damage: Callable[[Path], object], words: str, mend: str
) -> None:
    """Before anything is started; pickled weights with the way to convert them."""
    damage(adapter)
    with pytest.raises(InputError, match=words) as refusal:
        begin(loras=(f"sql={adapter}",))
    assert refusal.value.where == f"--lora sql={adapter}"
    assert mend in refusal.value.mend


@pytest.mark.parametrize(
    ("engine", "options", "where"),
    [
        ({}, {"lora": False, "loras": ("a=b",)}, "--no-lora"),
        ({}, {"lora": False, "lora_dir": "adapters"}, "--no-lora"),
        ({}, {"lora": False, "lora_roots": ("adapters",)}, "--no-lora"),
        ({}, {"lora": False, "prefetch": True}, "--no-lora"),
        ({"lora_swap": False}, {"prefetch": True}, "--prefetch"),
        ({}, {"lora_roots": ("/",)}, "serve.lora_roots"),
        ({}, {"weights_roots": ("/",)}, "serve.weights_roots"),
        ({}, {"lora_dir": ""}, "--lora-dir "),
        ({}, {"lora_dir": "/no/such/folder"}, "--lora-dir /no/such/folder"),
    ],
)
def test_contradictions_are_refused(engine: dict[str, Any], options: dict[str, Any], where: str) -> None:
    """What would have no effect is said, not ignored."""
    with pytest.raises(ConfigError) as refusal:
        begin(EngineConfig(**engine), **options)
    assert refusal.value.where == where


def test_flags_that_only_measure_go_together(adapter: Path) -> None:
    """--no-lora-compute and --no-lora-swap leave the adapters; --no-lora may stand beside both."""
    off = EngineConfig(lora_compute=False, lora_swap=False)
    assert len(begin(off, loras=(f"sql={adapter}",))) == 1
    assert begin(off, lora=False) == ()
    assert roots_of(lora=False) == ()


def test_an_adapter_is_no_folder_of_adapters(adapter: Path) -> None:
    """The likely slip is met with the right flag."""
    with pytest.raises(ConfigError, match="is an adapter itself") as refusal:
        begin(lora_dir=str(adapter))
    assert refusal.value.mend == f"use --lora NAME={adapter}"


def test_missing_roots_are_refused(tmp_path: Path) -> None:
    """A root with a typo would refuse everything later."""
    with pytest.raises(ConfigError, match="there is no folder") as refusal:
        roots_of(lora_roots=(str(tmp_path / "nowhere"),), admin_key="k")
    assert refusal.value.where == "serve.lora_roots"
    with pytest.raises(ConfigError, match="there is no folder"):
        weights_roots(ServeConfig(weights_roots=("",)))


def test_what_an_engine_refuses_names_the_flag(adapter: Path) -> None:
    """The worker registers the adapters; the person knows them by their flags."""
    given = begin(loras=(f"sql={adapter}",))
    register_all(known := SimulatedAdapters(), given)
    assert known.names() == ("sql",)
    with pytest.raises(InputError, match=r"adapter 'sql': .*is registered") as refusal:
        register_all(known, given)
    assert refusal.value.where == f"--lora sql={adapter}"


def test_folders_below_a_root_are_allowed(adapter: Path, tmp_path: Path) -> None:
    """By the root's own name and by where it really is; folders given at the start are roots themselves."""
    parent = adapter.parent
    (tmp_path / "link").symlink_to(parent)
    for root in (parent, tmp_path / "link"):
        roots = roots_of(lora_roots=(str(root),), admin_key="k")
        assert allowed_folder(str(root / "sql"), roots) == adapter
    assert allowed_folder(str(adapter), roots_of(loras=(f"x={tmp_path}/link/sql",))) == adapter
    assert allowed_folder(str(parent), roots_of(lora_dir=str(parent))) == parent
    with pytest.raises(InputError, match="may load from"):
        allowed_folder(str(parent), roots_of(loras=(f"x={adapter}",)))


def test_a_cache_of_links_can_be_loaded_again(adapter: Path, tmp_path: Path) -> None:
    """The Hub's cache has snapshots of links to blobs elsewhere; those very files stay allowed, no others."""
    snapshot, blobs = tmp_path / "snapshot", tmp_path / "blobs"
    snapshot.mkdir()
    adapter.rename(blobs)
    (blobs / "other").write_text("x")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (snapshot / name).symlink_to(f"../blobs/{name}")
    roots = roots_of(loras=(f"x={snapshot}",))
    assert allowed_folder(str(snapshot), roots) == snapshot
    (snapshot / "more").symlink_to("../blobs/other")
    with pytest.raises(InputError, match="may load from"):
        allowed_folder(str(snapshot), roots)
    with pytest.raises(InputError, match="no such folder"):
        allowed_folder(str(blobs / "adapter_config.json"), roots)


def test_nothing_outside_of_the_roots_can_be_told_apart(adapter: Path, tmp_path: Path) -> None:
    """What exists, what doesn't and what leads back inside get the same words."""
    parent = adapter.parent
    outside = tmp_path / "secret"
    outside.mkdir()
    (tmp_path / "back").symlink_to(adapter)
    (parent / "out").symlink_to(outside)
    (parent / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "adapters-too").mkdir()
    inside = save_random_adapter(parent / "linked")
    (inside / "x").symlink_to(outside / "nothing")
    roots = roots_of(lora_dir=str(tmp_path / "adapters"))
    roots = roots[:2]  # without what the folders given at the start add
    for folder in (
        *(tmp_path / name for name in ("secret", "nowhere", "back", "adapters-too", "adapters/../secret")),
        *(parent / name for name in ("out", "gone", "linked", "out/../adapters/sql", "../adapters/sql")),
        *("/", "", ".", "/etc", "~", f"{adapter}\0", f"{adapter}\n", f"{parent}/{'x' * LONGEST_PATH}"),
    ):
        with pytest.raises(InputError) as refusal:
            allowed_folder(str(folder), roots)
        assert refusal.value.message == "not in a folder that this server may load from"
    assert allowed_folder(str(adapter), roots) == adapter
    with pytest.raises(InputError):
        allowed_folder(str(adapter), ())


def test_what_can_t_be_looked_at_is_refused(adapter: Path) -> None:
    """Links in a circle and names too long for the file system are errors, not crashes."""
    (adapter.parent / "circle").symlink_to("circle")
    roots = roots_of(lora_roots=(str(adapter.parent),), admin_key="k")
    for name in ("circle", "x" * 300, "none", "sql/adapter_config.json"):
        with pytest.raises(InputError, match=r"can't be read|no such folder"):
            allowed_folder(str(adapter.parent / name), roots)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    parts=st.lists(
        st.sampled_from(["..", ".", "", "sql", "adapters", "out", "secret", "~", "\0", "/"]) | st.text()
    ),
    absolute=st.booleans(),
)
def test_no_path_leads_out(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], absolute: bool
) -> None:
    """Whatever is asked for is below the root in the end, or refused with an InputError."""
    base = tmp_path_factory.getbasetemp() / "paths"
    if not base.exists():
        save_random_adapter(base / "adapters" / "sql")
        (base / "secret").mkdir()
        (base / "adapters" / "out").symlink_to(base / "secret")
    folder = "/".join(parts)
    try:
        found = allowed_folder(f"{base}/adapters/{folder}" if absolute else folder, (base / "adapters",))
    except InputError:
        return
    assert found.is_relative_to(base / "adapters")
    assert not os.path.realpath(found).startswith(str(base / "secret"))


@given(name=st.text(max_size=2 * LONGEST_NAME))
def test_a_good_name_is_one_line(name: str) -> None:
    """It can stand in logs, metrics and JSON as it is."""
    if not check_name(name, "base"):
        assert name == name.strip()
        assert name != "base"
        assert len(name.splitlines()) == 1
        name.encode()
    elif name.isascii() and name.isalnum() and name != "base":
        assert len(name) not in range(1, LONGEST_NAME + 1)


@pytest.mark.parametrize("name", ["org/name", "sql v2", "größe", "模型", "a=b", string.punctuation])
def test_names_that_people_use_are_good(name: str) -> None:
    """Slashes, spaces inside and other scripts are no harm."""
    assert check_name(name, "base") == ""


def test_the_module_needs_neither_torch_nor_zmq() -> None:
    """The HTTP server and the command import it."""
    heavy = {"torch", "zmq", "transformers"}
    code = "import sys, asynckit.serve.adapters; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not heavy.intersection(done.stdout.split())
