"""`mta queue`: look into the queue, with the server running or stopped.

Rule: what is read comes from LMDB in short transactions; only which parts are leased at this moment has to be asked of
the queue process, and without one nothing is.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from mta._fast import FrameReader
from mta.address import canonical_domain
from mta.cli.rows import STATES, count, message_row, messages, recipient_rows
from mta.cli.tables import print_count, print_message, print_messages
from mta.config import Config, load
from mta.errors import StartError
from mta.link import Kind, Leases, decoder, frame
from mta.linkpath import open_link
from mta.store import READ_ERRORS, Queued, Reader

__all__ = ["queue_app"]

ANSWER_S = 5.0
ANSWER_OCTETS = 16_777_216
ID_TEXT = re.compile(r"[0-9a-f]{32}")

queue_app = typer.Typer(help="Look into the queue.", no_args_is_help=True, add_completion=False)

ConfigOption = Annotated[Path, typer.Option("-c", "--config", help="The configuration file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON lines instead of a table.")]


@queue_app.command("list")
def list_messages(
    config: ConfigOption,
    domain: Annotated[str, typer.Option(help="Only messages with a recipient in this domain.")] = "",
    sender: Annotated[str, typer.Option(help="Only messages from this address; <> is the null sender.")] = "",
    tenant: Annotated[str, typer.Option(help="Only this tenant's messages.")] = "",
    campaign: Annotated[str, typer.Option(help="Only this campaign's messages.")] = "",
    state: Annotated[str, typer.Option(help=f"Only messages in this state: {', '.join(STATES)}.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Show so many at most; 0 shows all.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """List messages, oldest first."""
    if state and state not in STATES:
        raise typer.BadParameter(f"expected one of {', '.join(STATES)}, got {state!r}", param_hint="--state")
    settings = load(config)
    wanted = {"tenant": tenant, "campaign": campaign, "state": state}
    if sender:
        wanted["sender"] = sender
    wanted_domain = canonical_domain(domain) or domain
    n_shown = 0
    shown: list[dict[str, Any]] = []
    with _opened(settings) as reader:
        active = _active(settings)
        for queued in messages(reader):
            row = message_row(queued, active)
            if domain and wanted_domain not in row["domains"]:
                continue
            if any(value and row[key] != ("" if value == "<>" else value) for key, value in wanted.items()):
                continue
            if as_json:
                _print_json(row)
            else:
                shown.append(row)
            n_shown += 1
            if n_shown == limit:
                break
    if not as_json:
        print_messages(shown)


@queue_app.command("show")
def show_message(
    config: ConfigOption,
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The message id, 32 hex digits.")],
    content: Annotated[bool, typer.Option("--content", help="Write the message as it would go out.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one message with its recipients, or its content."""
    settings = load(config)
    if ID_TEXT.fullmatch(message_id) is None:
        raise typer.BadParameter(f"expected 32 hex digits, got {message_id!r}", param_hint="ID")
    with _opened(settings) as reader:
        queued = reader.queued(bytes.fromhex(message_id))
        if queued is None:
            raise StartError(f"no message {message_id} is in the queue")
        if content:
            write_content(reader, queued)
            return
        active = _active(settings)
    row = message_row(queued, active)
    row["recipients"] = recipient_rows(queued, active)
    if as_json:
        _print_json(row)
    else:
        print_message(row)


@queue_app.command("count")
def count_recipients(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Count messages, and recipients by state."""
    settings = load(config)
    with _opened(settings) as reader:
        totals = count(reader, _active(settings))
    if as_json:
        _print_json(totals)
    else:
        print_count(totals)


def write_content(reader: Reader, queued: Queued) -> None:
    """Write a message as it would go out to stdout. Raises StartError if it was delivered since `queued` was read."""
    try:
        content = reader.content(queued.message.extents)
    except LookupError as problem:
        # The content was read in a transaction of its own: the mail may have been delivered before it.
        if reader.queued(queued.id) is None:
            raise StartError(f"message {queued.id.hex()} has just left the queue") from problem
        raise
    sys.stdout.buffer.write(content)


@contextlib.contextmanager
def _opened(settings: Config) -> Iterator[Reader]:
    """Open the queue for reading. Raises StartError for whatever goes wrong with it, inside the `with` too."""
    try:
        reader = Reader(settings.data_dir, settings.queue.map_octets)
    except FileNotFoundError as problem:
        raise StartError(str(problem)) from problem
    except READ_ERRORS as problem:
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


def _active(settings: Config) -> frozenset[bytes]:
    """Ask the queue process which parts are leased; none are without a server."""
    frames = FrameReader(ANSWER_OCTETS)
    try:
        with open_link(settings.data_dir) as sock:
            sock.settimeout(ANSWER_S)
            sock.sendall(frame(Kind.ASK))
            while data := sock.recv(65_536):
                for _, payload in frames.feed(data):
                    return frozenset(decoder(Leases).decode(payload).parts)
    except (FileNotFoundError, ConnectionError):
        return frozenset()
    except TimeoutError:
        raise StartError(f"the queue process of {settings.data_dir} does not answer") from None
    except OSError as error:
        raise StartError(f"the queue process of {settings.data_dir} cannot be asked: {error.strerror}") from error
    return frozenset()


def _print_json(row: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(row) + b"\n")
