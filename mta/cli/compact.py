"""`mta queue compact`: give the disk back what is free in the queue's file, which never shrinks by itself."""

import typer

from mta.cli.access import ConfigOption, stopped
from mta.cli.tables import size_text
from mta.config import load
from mta.store import compact

__all__ = ["compact_queue"]


def compact_queue(config: ConfigOption) -> None:
    """Copy the queue into a file without free pages; the server must be stopped."""
    settings = load(config)
    with stopped(settings):
        before, after = compact(settings.data_dir, settings.queue.map_octets)
    typer.echo(f"before {before:,} octets ({size_text(before)}), after {after:,} octets ({size_text(after)})")
