"""What is counted and numbered: counter, event, meta. Part of `verify`.

The conservation law: for each tenant received = delivered + bounced + expired + dropped + the recipients that are open.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from mta.reply import printable
from mta.store.codec import CounterRow, decode_counter
from mta.store.keys import number, tenant_key
from mta.store.snapshot import Snapshot
from mta.store.stream import UNREADABLE, Stream
from mta.store.wrong import Balance, Move, Number, Refill, Wrong

__all__ = ["balance", "counters", "events", "numbers"]

EVENT_OCTETS = 8
TENANT_OCTETS = 20
# A number far behind the others is a damaged key, not a gap that anybody could fill.
MOST_MISSING = 10_000
LAST_NUMBER = (1 << 64) - 1


def balance(row: CounterRow, n_open: int) -> int:
    """Return how many recipients were received and are neither accounted for nor open: 0 when the law holds."""
    return row.received - row.delivered - row.bounced - row.expired - row.dropped - n_open


def counters(snapshot: Snapshot, n_open: Counter[str]) -> Iterator[Wrong]:
    """Check the law for each tenant; `n_open` are the open recipients of each."""
    found: list[Wrong] = []
    seen: set[str] = set()
    rows = Stream(snapshot, "counter", TENANT_OCTETS, found)
    while rows.is_there:
        try:
            row = decode_counter(rows.value)
        except UNREADABLE:
            found.append(Wrong("counter", rows.key, "the row cannot be decoded", Move()))
        else:
            key = tenant_key(row.tenant)
            if key != rows.key:
                found.append(
                    Wrong("counter", rows.key, f"the row is of another tenant, {printable(row.tenant)}", Move())
                )
            else:
                seen.add(row.tenant)
                left = balance(row, n_open[row.tenant])
                if left:
                    what = (
                        f"tenant {printable(row.tenant)} received {row.received} recipients; "
                        f"{row.received - left - n_open[row.tenant]} are decided and {n_open[row.tenant]} open"
                    )
                    found.append(Wrong("counter", key, what, Balance(row.tenant, n_open[row.tenant])))
        rows.move()
    yield from found
    for tenant, n in n_open.items():
        if n and tenant not in seen:
            what = f"tenant {printable(tenant)} has {n} open recipients and no counters"
            yield Wrong("counter", tenant_key(tenant), what, Balance(tenant, n))


def events(snapshot: Snapshot, decode_event: Callable[[bytes], object]) -> Iterator[Wrong]:
    """Check that each event can be read, and that no number is missing between the first and the last."""
    found: list[Wrong] = []
    rows = Stream(snapshot, "event", EVENT_OCTETS, found)
    last = 0
    while rows.is_there:
        seq = number(rows.key)
        if last and seq > last + MOST_MISSING:
            found.append(Wrong("event", rows.key, f"its number is far from the one before, {last}", Move()))
            rows.move()
            continue
        if last and seq != last + 1:
            what = f"the events numbered {last + 1} to {seq - 1} before it are missing"
            found.append(Wrong("event", rows.key, what, Refill(last + 1, seq - 1)))
        try:
            decode_event(rows.value)
        except UNREADABLE:
            found.append(Wrong("event", rows.key, "the event cannot be decoded", Refill(seq, seq)))
        last = seq
        rows.move()
        if found:
            yield from found
            found.clear()
    yield from found
    yield from _number(snapshot, "next_event", last + 1, "an event")


def numbers(snapshot: Snapshot, live_octets: int, last_extent: int) -> Iterator[Wrong]:
    """Check the numbers in `meta`."""
    for name in ("schema", "node", "incarnation"):
        value = snapshot.get("meta", name.encode())
        if value is None or len(value) != 8:
            # What it was cannot be known; a missing one is made when the queue is opened.
            yield Wrong("meta", name.encode(), "the number is missing" if value is None else "it is not a number")
    value = snapshot.get("meta", b"live_octets")
    if value is None or len(value) != 8 or number(value) != live_octets:
        said = "is not a number" if value is None or len(value) != 8 else f"says {number(value)}"
        yield Wrong("meta", b"live_octets", f"it {said}, and {live_octets} octets are live", Number(live_octets))
    last_queue = max((number(key) for key, _ in snapshot.rows("queue") if len(key) == 8), default=0)
    yield from _number(snapshot, "next_queue", last_queue + 1, "a queue")
    yield from _number(snapshot, "next_extent", last_extent + 1, "an extent")


def _number(snapshot: Snapshot, name: str, least: int, of_what: str) -> Iterator[Wrong]:
    value = snapshot.get("meta", name.encode())
    if value is None or len(value) != 8:
        yield Wrong("meta", name.encode(), "it is not a number", Number(least))
    elif number(value) < least:
        what = f"it says {number(value)}, and {of_what} has the number {least - 1}"
        yield Wrong("meta", name.encode(), what, Number(least) if least <= LAST_NUMBER else None)
