"""`mta events`: print events from the segment files, one JSON object a line, with the server running or not."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from mta.config import load
from mta.errors import StartError
from mta.report import SegmentReader, last_seq

__all__ = ["events"]

POLL_S = 0.1


def events(
    config: Annotated[Path, typer.Option("-c", "--config", help="The configuration file.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens from now on, or from --since on.")
    ] = False,
    since: Annotated[
        int | None, typer.Option("--since", min=0, help="Begin with this sequence number.", show_default=False)
    ] = None,
) -> None:
    """Print events as JSON lines, oldest first; without --since all that are kept."""
    settings = load(config)
    directory = settings.events.directory
    try:
        if since is None:
            since = last_seq(directory) + 1 if follow else 0
        _print(directory, since, follow)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # Whoever read has enough. What is still buffered must not be flushed at exit into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise StartError(f"{error.filename or directory}: events cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise StartError(str(error)) from error


def _print(directory: str, since: int, follow: bool) -> None:
    reader = SegmentReader(directory, since)
    out = sys.stdout.buffer
    while True:
        try:
            block = reader.read()
        except FileNotFoundError:
            # A server that is yet to start makes the directory.
            if not follow:
                raise
            block = b""
        if block:
            out.write(block)
            out.flush()
        elif follow:
            time.sleep(POLL_S)
        else:
            return
