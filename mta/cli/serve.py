"""`mta serve`: run the server in the foreground, under a supervisor that wants it so."""

from pathlib import Path
from typing import Annotated

import typer

from mta.master import serve as run_server

__all__ = ["serve"]


def serve(config: Annotated[Path, typer.Option("-c", "--config", help="The configuration file.")]) -> None:
    """Run the server in the foreground; SIGTERM or Ctrl-C ends it, SIGHUP reloads, SIGUSR2 upgrades, all in order."""
    raise typer.Exit(run_server(str(config)))
