"""How often a peer makes the disk flush for each message it accepts, counted with strace in a run of its own.

Counted from the first connection until the queue is empty, so flushes of the delivery are among them: fsync, fdatasync,
sync, syncfs, msync(MS_SYNC), sync_file_range, and writes to what was opened with O_DSYNC or O_SYNC (LMDB's meta page).
A first, short look finds by which calls such writes are made; only those are traced when it counts, because each call
that is traced stops a process twice.

Even so strace makes a server slower, and one that flushes for several messages at once gathers other groups than it
does without: its figure is that of this run. One that flushes for each message has the same figure anyway.
A write counts as synchronous if its file was opened so, by whatever process, under the same number.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack

import msgspec

from bench.client import Client
from bench.peers.peer import Peer
from bench.peers.trace import Call, Traced
from bench.sink import Sink
from bench.wait import wait_until

__all__ = ["FLUSHES", "OPENS", "Flushes", "count_flushes", "flushes", "send_some"]

LOOK_MESSAGES = 100
DONE_S = 300.0
FLUSHES = ("fsync", "fdatasync", "sync", "syncfs", "msync", "sync_file_range")
OPENS = ("open", "openat", "openat2", "creat")
WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile", "splice", "copy_file_range")
# Files that are written through a ring of this kind, as libuv can, are not seen. (It has another one for epoll alone.)
RING = "io_uring_setup"
UNSEEN = "IORING_SETUP_SQPOLL"
_DESCRIPTOR = re.compile(r"(\d+)<(.*?)>")
_SYNCHRONOUS = re.compile(r"\bO_D?SYNC\b")
_FLAGGED = re.compile(r"\bRWF_D?SYNC\b")


class Flushes(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted."""

    messages: int
    connections: int
    octets: int
    """Of body a message."""
    calls: dict[str, int]
    """How often each call was made; "pwrite64 (synchronous)" is a write."""

    @property
    def a_message(self) -> float:
        """Flushes of any kind for each message."""
        return sum(self.calls.values()) / self.messages


async def send_some(address: tuple[str, int], messages: int, connections: int, octets: int) -> None:
    """Send messages over kept connections. Raises ConnectionError when one is refused."""
    line = b"x" * 70 + b"\r\n"
    content = b"Subject: x\r\n\r\n" + line * (octets // len(line)) + b"\r\n"
    todo = iter(range(messages))

    async def work() -> None:
        client = Client(*address)
        await client.connect()
        for number in todo:
            answer = await client.send("sender@source.test", [f"r{number}@sink.test"], content, pipelined=False)
            if answer.code != 250:
                raise ConnectionError(f"{answer.code} {answer.text}")
        await client.close()

    async with asyncio.timeout(DONE_S), asyncio.TaskGroup() as group:
        for _ in range(min(connections, messages)):
            group.create_task(work())


def _synchronous(calls: Iterable[Call]) -> Iterator[Call]:
    """Yield the writes that return only when they are on the disk."""
    opened: set[str] = set()
    for call in calls:
        if call.name in OPENS:
            if _SYNCHRONOUS.search(call.arguments):
                opened.add(call.result)
        elif call.name in WRITES:
            descriptor = _DESCRIPTOR.match(call.arguments)
            if (descriptor and descriptor[0] in opened) or _FLAGGED.search(call.arguments):
                yield call


def count_flushes(calls: Sequence[Call], began_at: float, ended_at: float) -> dict[str, int]:
    """Return how often what flushes was called between two times; what is opened before counts, too."""
    names = [(call.at, f"{call.name} (synchronous)") for call in _synchronous(calls)]
    for call in calls:
        if call.name in FLUSHES and (call.name != "msync" or "MS_SYNC" in call.arguments):
            names.append((call.at, call.name))
    return dict(sorted(Counter(name for at, name in names if began_at <= at <= ended_at).items()))


def _trace(
    kind: type[Peer], calls: Sequence[str], messages: int, connections: int, octets: int
) -> tuple[list[Call], float, float]:
    with ExitStack() as stack:
        sink = stack.enter_context(Sink())
        traced = stack.enter_context(Traced(kind(sink.via), calls))
        began_at = time.time()
        asyncio.run(send_some(traced.peer.address, messages, connections, octets))
        if kind.is_relaying:
            sink.wait_count(messages, DONE_S)
        wait_until(lambda: traced.peer.n_queued() == 0, f"an empty queue at {kind.name}", DONE_S)
        ended_at = time.time()
    return traced.calls, began_at, ended_at


def flushes(kind: type[Peer], n_messages: int = 1000, connections: int = 50, octets: int = 4096) -> Flushes:
    """Run a peer of this kind under strace, twice, and count. Raises PeerMissing, StartFailed, TimeoutError."""
    seen, _, _ = _trace(kind, [*FLUSHES, *OPENS, *WRITES, RING], LOOK_MESSAGES, connections, octets)
    if any(call.name == RING and UNSEEN in call.arguments for call in seen):
        raise RuntimeError(f"{kind.name} writes by io_uring, which strace cannot count")
    writes = {call.name for call in _synchronous(seen)}
    calls, began_at, ended_at = _trace(kind, [*FLUSHES, *OPENS, *writes], n_messages, connections, octets)
    counts = count_flushes(calls, began_at, ended_at)
    return Flushes(messages=n_messages, connections=connections, octets=octets, calls=counts)
