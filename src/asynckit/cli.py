"""The Typer application: commands are imported when they are run, and errors become exit codes here alone.

Typer's help asks a group for every subcommand. Importing them all would cost time for nothing, so the group
serves placeholders that carry the summary, and replaces one by the real command when it is about to run.
"""

import importlib
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from asynckit import __version__, console
from asynckit.errors import AsynckitError

# name: (module that defines `app`, one-line summary)
COMMANDS = {
    "rollout": ("asynckit.commands.rollout", "Generate and score responses asynchronously on Ray."),
    "serve": ("asynckit.commands.serve", "Serve a model and its LoRA adapters as OpenAI does."),
    "tokenize": ("asynckit.commands.tokenize", "Turn text into token shards that a trainer can memory-map."),
    "bench-cuda": (
        "asynckit.commands.bench_cuda",
        "Time GPU kernels and models, and say how sure.",
    ),
    "runs": ("asynckit.commands.runs", "List, show, audit and export what rollout left behind."),
    "tokens": ("asynckit.commands.tokens", "Inspect, verify and count what tokenize left behind."),
    "config": ("asynckit.commands.config", "Show the resolved configuration."),
}

EPILOG = (
    "Exit codes: 0 done · 1 the work failed · 2 usage · 3 configuration invalid · 4 input invalid · "
    "5 a dependency is missing or unreachable · 6 a comparison found a regression · 130 interrupted."
)


class LazyGroup(TyperGroup):
    """A group whose commands are imported when one of them runs."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is Typer's
        """Names in the order of :data:`COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:  # noqa: ARG002 - as above
        """A placeholder with the command's summary: enough for help and completion."""
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The real command, imported now."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            command = typer.main.get_command(importlib.import_module(COMMANDS[name][0]).app)
            command.name = name
        return name, command, rest


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"asynckit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Post-train and serve language models: tokens, asynchronous RL rollouts, an OpenAI-compatible server."""


def main() -> NoReturn:
    """Run the command line and exit with the documented code."""
    command = typer.main.get_command(app)
    try:
        command.main(args=sys.argv[1:], prog_name="asynckit")
    except AsynckitError as error:
        if console.verbose():
            traceback.print_exc()
        console.print_error(error.message, error.where, error.mend)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last line of defence: printed in full and exit code 1
        traceback.print_exc()
        console.print_error(
            f"{type(error).__name__}: {error}",
            "",
            "this is a bug in asynckit: please report it with the lines above",
        )
        sys.exit(1)
    sys.exit(0)
