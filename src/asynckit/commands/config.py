"""``asynckit config show``: the resolved configuration."""

from typing import Annotated

import typer

from asynckit.commands import options
from asynckit.errors import UsageError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Show the resolved configuration.")


@app.callback()
def config() -> None:
    """Show the resolved configuration."""


@app.command()
def show(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SECTION|KEY] [KEY=VALUE]...",
            help="A section or key to show (all by default), and settings.",
            show_default=False,
        ),
    ] = None,
    config_files: options.ConfigFiles = None,
    settings: options.Settings = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where every value came from.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,  # noqa: ARG001 - there is no progress to silence; every command takes it
    verbose: options.Verbose = False,
) -> None:
    """Print the configuration that a command with these settings would run with."""
    from asynckit.config.show import render_json, render_origins, render_yaml

    overrides = [word for word in words or () if "=" in word]
    selections = [word for word in words or () if "=" not in word]
    if len(selections) > 1:
        raise UsageError(
            f"one section or key can be shown at a time, not {len(selections)} ({', '.join(selections)})",
            mend="name one, or none for all",
        )
    selection = selections[0] if selections else None
    loaded = options.load(
        files=config_files, settings=settings, overrides=overrides, flags=[], verbose=verbose
    )
    if origin:
        text = render_origins(loaded, selection, as_json=json)
    else:
        text = render_json(loaded, selection) if json else render_yaml(loaded, selection)
    typer.echo(text.rstrip("\n"))
