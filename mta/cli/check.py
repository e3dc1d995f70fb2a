"""`mta check`: say everything that is wrong with a configuration file, without touching the server."""

from pathlib import Path
from typing import Annotated

import typer

from mta.config import load

__all__ = ["check"]


def check(config: Annotated[Path, typer.Option("-c", "--config", help="The configuration file.")]) -> None:
    """Check a configuration file: `FILE: ok`, or a line for each error."""
    load(config)
    typer.echo(f"{config}: ok")
