"""The command `mta`: which commands there are, and what every command does about errors.

Rule: a command's module is imported when the command is given, so that `mta serve` carries nothing (lmdb, tables for
people) that another command needs, and neither do the processes it forks.

Exit codes: 0 done, 1 the work failed, 2 usage or configuration. What can be foreseen ends in a sentence on stderr.
"""

import importlib
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mta.errors import ConfigError, StartError

__all__ = ["main"]

EXIT_FAILED = 1
EXIT_USAGE = 2

# name -> "module:object"; the object is a function, or a typer app for a command that has commands of its own.
COMMANDS: Mapping[str, str] = {
    "serve": "mta.cli.serve:serve",
    "check": "mta.cli.check:check",
    "queue": "mta.cli.queue:queue_app",
    "events": "mta.cli.events:events",
}


class Commands(TyperGroup):
    """The commands of COMMANDS, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order in which help shows them."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of that name, None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        if not isinstance(command, typer.Typer):
            app = typer.Typer(add_completion=False)
            app.command(cmd_name)(command)
            command = app
        click_command = typer.main.get_command(command)
        click_command.name = cmd_name
        return click_command


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"mta {version('posthaste-mta')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Posthaste, a mail transfer agent."""


def main() -> None:
    """Run the command line in `sys.argv` and exit with its code."""
    app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_options)
    try:
        app()
    except ConfigError as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        sys.exit(EXIT_USAGE)
    except StartError as error:
        sys.stderr.write(f"mta: {error}\n")
        sys.exit(EXIT_FAILED)
