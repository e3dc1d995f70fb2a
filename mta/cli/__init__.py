"""The command line, one file a command; `main` says which there are."""

from mta.cli.main import main

__all__ = ["main"]
