"""`mta queue`: look into the queue, with the server running or stopped; `orders` has the commands that change it.

Rule: what is read comes from LMDB in short transactions; only which parts are leased at this moment has to be asked of
the queue process, and without one nothing is.
"""

import sys
from itertools import islice
from typing import Annotated, Any

import msgspec
import typer

from mta.cli.access import ConfigOption, JsonOption, id_of, opened
from mta.cli.asking import active
from mta.cli.compact import compact_queue
from mta.cli.matching import CampaignOption, DomainOption, Filter, SenderOption, StateOption, TenantOption
from mta.cli.orders import add_orders
from mta.cli.rows import count, message_row, recipient_rows, tell_damage
from mta.cli.tables import print_count, print_message, print_messages
from mta.cli.verify import verify_queue
from mta.config import load
from mta.errors import StartError
from mta.report import escape_json
from mta.store import Queued, Reader

__all__ = ["queue_app"]

queue_app = typer.Typer(help="Look into the queue, and change it.", no_args_is_help=True, add_completion=False)
add_orders(queue_app)
queue_app.command("verify")(verify_queue)
queue_app.command("compact")(compact_queue)


@queue_app.command("list")
def list_messages(
    config: ConfigOption,
    domain: DomainOption = "",
    sender: SenderOption = "",
    tenant: TenantOption = "",
    campaign: CampaignOption = "",
    state: StateOption = "",
    limit: Annotated[int, typer.Option(min=0, help="Show so many at most; 0 shows all.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """List messages, oldest first."""
    wanted = Filter(domain, sender, tenant, campaign, state)
    wanted.check()
    settings = load(config)
    shown: list[dict[str, Any]] = []
    damaged: list[bytes] = []
    with opened(settings) as reader:
        for row in islice(wanted.rows(reader, active(settings), damaged), limit or None):
            if as_json:
                _print_json(row)
            else:
                shown.append(row)
    if not as_json:
        print_messages(shown)
    tell_damage(damaged)


@queue_app.command("show")
def show_message(
    config: ConfigOption,
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The message id, 32 hex digits.")],
    content: Annotated[bool, typer.Option("--content", help="Write the message as it would go out.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one message with its recipients, or its content."""
    settings = load(config)
    wanted = id_of(message_id)
    with opened(settings) as reader:
        queued = reader.queued(wanted)
        if queued is None:
            raise StartError(f"no message {message_id} is in the queue")
        if content:
            write_content(reader, queued)
            return
        leased = active(settings)
    row = message_row(queued, leased)
    row["recipients"] = recipient_rows(queued, leased)
    if as_json:
        _print_json(row)
    else:
        print_message(row)


@queue_app.command("count")
def count_recipients(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Count messages, and recipients by state."""
    settings = load(config)
    damaged: list[bytes] = []
    with opened(settings) as reader:
        totals = count(reader, active(settings), damaged)
    if as_json:
        _print_json(totals)
    else:
        print_count(totals)
    tell_damage(damaged)


def write_content(reader: Reader, queued: Queued) -> None:
    """Write a message as it would go out to stdout. Raises StartError if it was delivered since `queued` was read."""
    extents = queued.message.extents
    for piece in range(len(extents)):
        try:
            content = reader.piece(extents, piece)
        except LookupError as problem:
            # Each piece is read in a transaction of its own: the mail may have been delivered before it.
            if reader.queued(queued.id) is None:
                raise StartError(f"message {queued.id.hex()} has just left the queue") from problem
            raise
        sys.stdout.buffer.write(content)


def _print_json(row: dict[str, Any]) -> None:
    sys.stdout.buffer.write(escape_json(msgspec.json.encode(row)) + b"\n")
