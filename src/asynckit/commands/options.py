"""Options that every command has, and how they become one loaded configuration."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asynckit import console

if TYPE_CHECKING:
    from asynckit.config.load import Flag, LoadedConfig

ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="YAML file with settings; repeatable, later files win."
    ),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeatable.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Settings, such as engine.dtype=float32.", show_default=False
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Built-in name, folder, GGUF file, Hub id or remote folder."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more; show tracebacks.")]


def load(
    *,
    files: list[Path] | None,
    settings: list[str] | None,
    overrides: list[str] | None,
    flags: "list[Flag]",
    verbose: bool,
) -> "LoadedConfig":
    """Set up the console and load the configuration; flags whose value is None were not given."""
    from asynckit.config.load import load_config

    console.set_up(verbose=verbose)
    given = [flag for flag in flags if flag.value is not None]
    return load_config(files=files or (), overrides=[*(overrides or ()), *(settings or ())], flags=given)
