"""`mta queue verify`: say what is wrong with the queue, and mend it when asked to.

Looking works with the server running: everything is compared in one read transaction, a second or two for each hundred
thousand messages. Mending needs the server stopped.
"""

import sys
from typing import Annotated

import typer

from mta.cli.access import ConfigOption, opened, stopped
from mta.config import Config, load
from mta.errors import StartError
from mta.queue import repair
from mta.report import decode
from mta.store import verify

__all__ = ["verify_queue"]


def verify_queue(
    config: ConfigOption,
    mend: Annotated[bool, typer.Option("--repair", help="Mend what is wrong; the server must be stopped.")] = False,
) -> None:
    """Say `ok`, or a line for each thing that is wrong with the queue."""
    settings = load(config)
    if mend:
        n_wrong = _repair(settings)
        said = f"{_things(n_wrong)} left that cannot be mended in the queue in {settings.data_dir}"
    else:
        n_wrong = _verify(settings)
        said = f"{_things(n_wrong)} wrong with the queue in {settings.data_dir}"
    if n_wrong:
        sys.stdout.flush()
        raise StartError(said)
    typer.echo("ok")


def _verify(settings: Config) -> int:
    """Print what is wrong, and return how much that is."""
    n_wrong = 0
    with opened(settings) as reader, reader.snapshot() as snapshot:
        for wrong in verify(snapshot, decode):
            n_wrong += 1
            sys.stdout.write(f"{wrong}\n")
    return n_wrong


def _repair(settings: Config) -> int:
    """Print what was mended and then what was not; return how much is left."""
    with stopped(settings):
        left = repair(settings.data_dir, settings.queue.map_octets, typer.echo)
    for wrong in left:
        typer.echo(f"{wrong}; left as it is")
    return len(left)


def _things(n: int) -> str:
    return "one thing is" if n == 1 else f"{n:,} things are"
