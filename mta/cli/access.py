"""The queue in a command's hands: open for reading, or locked while no server runs on it; and what commands share.

Rule: whatever goes wrong with it is a StartError, which `main` turns into a sentence.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from mta.config import Config
from mta.errors import StartError
from mta.master import Lock, find_user
from mta.store import READ_ERRORS, Reader, StorageFull, StoreError

__all__ = ["ConfigOption", "JsonOption", "id_of", "opened", "stopped"]

ID_TEXT = re.compile(r"[0-9a-f]{32}")

ConfigOption = Annotated[Path, typer.Option("-c", "--config", help="The configuration file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON lines instead of a table.")]


def id_of(text: str) -> bytes:
    """Return a message id given as text. Raises typer.BadParameter."""
    if ID_TEXT.fullmatch(text) is None:
        raise typer.BadParameter(f"expected 32 hex digits, got {text!r}", param_hint="ID")
    return bytes.fromhex(text)


@contextlib.contextmanager
def opened(settings: Config) -> Iterator[Reader]:
    """Open the queue for reading. Raises StartError for whatever goes wrong with it, inside the `with` too."""
    try:
        reader = Reader(settings.data_dir, settings.queue.map_octets)
    except FileNotFoundError as problem:
        raise StartError(str(problem)) from problem
    except READ_ERRORS as problem:
        # Readers, too, write into LMDB's lock file.
        lock = os.path.join(settings.data_dir, "queue", "lock.mdb")
        if not os.access(lock, os.R_OK | os.W_OK):
            who = settings.process.user or "the user that the server runs as"
            raise StartError(f"{lock}: permission denied: run this as root or {who}") from problem
        raise _unreadable(settings, problem) from problem
    try:
        yield reader
    except BrokenPipeError:
        # Whoever read has enough. What is still buffered must not be flushed at exit into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except READ_ERRORS as problem:
        raise _unreadable(settings, problem) from problem
    finally:
        reader.close()


def _unreadable(settings: Config, problem: Exception) -> StartError:
    """Return the sentence for what LMDB, a damaged row, or the file system says; the errors have no common class."""
    return StartError(f"the queue in {settings.data_dir} cannot be read: {type(problem).__name__}: {problem}")


@contextlib.contextmanager
def stopped(settings: Config) -> Iterator[None]:
    """Hold the data_dir's lock, as a server does: none can start within the `with`, in which root has the rights of
    `process.user`. Raises StartError, inside it too, for whatever the store says or the file system refuses."""
    if not Path(settings.data_dir, "queue", "data.mdb").exists():
        raise StartError(f"{settings.data_dir}: there is no queue yet")
    user = find_user(settings.process.user)
    lock = Lock.open(settings.data_dir, user)
    try:
        if not lock.take():
            raise StartError(f"a server is running on data_dir {settings.data_dir}: stop it first")
        # What root makes in the user's folders the server could not use, and a link there would lead root astray.
        with user.acting():
            yield
    except (StoreError, StorageFull, OSError) as problem:
        raise StartError(f"the queue in {settings.data_dir}: {problem}") from problem
    except READ_ERRORS as problem:
        raise _unreadable(settings, problem) from problem
    finally:
        lock.close()
