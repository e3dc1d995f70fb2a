"""`mta queue retry|hold|release|remove|bounce`: an operator's hands on a live queue.

Rule: what to change is found here, by reading, and handed to the queue process in slices, of which it takes so many at
a time that the mail which goes on meanwhile does not wait. On a part that is just being delivered an order takes effect
when that attempt is settled.
"""

import contextlib
from collections.abc import Callable, Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mta.cli.access import ConfigOption, JsonOption, id_of, opened
from mta.cli.asking import Link, active
from mta.cli.matching import CampaignOption, DomainOption, Filter, SenderOption, StateOption, TenantOption
from mta.cli.rows import tell_damage
from mta.config import load
from mta.errors import StartError
from mta.link import Kind, Order, OrderName, frame

__all__ = ["add_orders"]

# Messages of many recipients have many rows; no slice must hold up a commit.
SLICE_MESSAGES = 50

HELP: dict[OrderName, str] = {
    "retry": "Try messages at once, also where their destination's path rests.",
    "hold": "Keep messages from being tried until they are released; they still expire.",
    "release": "Let held messages, and those set aside, be tried again.",
    "remove": "Delete messages. Nobody is told: no bounce is sent.",
    "bounce": "Give messages up now, and tell their senders.",
}

IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Message ids, 32 hex digits each.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every message in the queue.")]


def add_orders(app: typer.Typer) -> None:
    """Register a command for each order."""
    for name, text in HELP.items():
        app.command(name, help=text)(_command(name))


def _command(name: OrderName) -> Callable[..., None]:
    def command(
        config: ConfigOption,
        ids: IdsArgument = None,
        domain: DomainOption = "",
        sender: SenderOption = "",
        tenant: TenantOption = "",
        campaign: CampaignOption = "",
        state: StateOption = "",
        everything: AllOption = False,
        as_json: JsonOption = False,
    ) -> None:
        wanted = Filter(domain, sender, tenant, campaign, state)
        _run(name, config, tuple(ids or ()), wanted, everything, as_json)

    return command


def _slices(name: OrderName, ids: Iterator[bytes]) -> Iterator[Order]:
    while some := tuple(islice(ids, SLICE_MESSAGES)):
        yield Order(name, some)


def _run(name: OrderName, config: Path, ids: tuple[str, ...], wanted: Filter, everything: bool, as_json: bool) -> None:
    wanted.check()
    if sum((bool(ids), wanted != Filter(), everything)) != 1:
        raise typer.BadParameter("expected message ids, or a filter, or --all, and only one of these")
    given = [id_of(text) for text in ids]
    settings = load(config)
    n_matched = n_changed = 0
    unknown: list[bytes] = []
    damaged: list[bytes] = []
    with contextlib.closing(Link(settings)) as link:
        # Said first, so that a command without a server says that, and not what is wrong with the queue.
        link.ask(frame(Kind.ORDER, Order(name, ())))
        with opened(settings) as reader:
            # What comes in from now on is not meant: our own notices of what is sent back, to begin with.
            last = reader.last_message()
            found = iter(given)
            if not given:
                found = takewhile(lambda id_: id_ <= last, wanted.ids(reader, active(settings), damaged))
            for order, done in link.orders(_slices(name, found)):
                n_matched += len(order.ids) - len(done.unknown) - len(done.damaged)
                n_changed += done.n_changed
                unknown += done.unknown
                damaged += done.damaged
    if as_json:
        typer.echo(msgspec.json.encode({"matched": n_matched, "changed": n_changed}))
    else:
        typer.echo(f"{n_matched:,} message{'' if n_matched == 1 else 's'} matched, {n_changed:,} changed")
    if given and unknown:
        raise StartError(f"not in the queue: {', '.join(id_.hex() for id_ in unknown)}")
    tell_damage(damaged)
