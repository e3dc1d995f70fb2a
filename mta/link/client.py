"""The worker's end of the link: two connections to the queue process that are made again whenever they are lost.

Rule: whatever was not answered is said again, in the same order, before READY. A message that was put twice is stored
once, a settlement that was said twice is applied once: the queue process sees to that.

Frames are gathered and written once a loop iteration. The worker's composition root makes one QueueLink and hands it
to `accept` (which puts) and to the dispatch (which is the Tasks).
"""

import asyncio
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal, cast

from mta.link.contract import PartWaiter, Tasks, Waiter
from mta.link.ends import End
from mta.link.frames import (
    LINK_VERSION,
    MAX_HEAD_OCTETS,
    Closed,
    Greeted,
    Hello,
    Kind,
    Lease,
    Note,
    PutHead,
    Refused,
    Report,
    Resolve,
    Resolved,
    Settle,
    Settled,
    Settlement,
    Welcome,
    decoder,
    encode,
    frame,
)
from mta.link.notes import Notes
from mta.link.parts import read_id, read_part_stored
from mta.link.pending import Pending, Puts
from mta.link.recent import Recent
from mta.link.streams import Streams
from mta.linkpath import open_link
from mta.message import IdMaker, Outcome, now_ms
from mta.reply import REPLY_451_QUEUE_SILENT, Reply
from mta.report import Fault, cut
from mta.report import encode as encode_event

__all__ = ["QueueLink"]

# Bound once: see ARCHITECTURE, Choices.
SETTLE, CLOSED, GREETED, NOTE = Kind.SETTLE, Kind.CLOSED, Kind.GREETED, Kind.NOTE
RETRY_S = 0.05
# Parts this worker takes at once. What is leased is not in RAM: this bounds how much comes back when it dies.
CREDIT_PARTS = 2000
# So much, and another frame of settlements is begun: the whole must stay well below the limit of a frame.
FRAME_OCTETS = 1024 * 1024
RESULT_OCTETS = 2048
REPLY_452_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients for one message, send it to some of them first")


class QueueLink:
    """Puts messages and carries out what the queue process asks. Made once per worker."""

    def __init__(self, data_dir: str, worker: int, pid: int, grace_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self._data_dir = data_dir
        self._worker = worker
        self._pid = pid
        self._grace_s = grace_s
        self._loop = loop
        self._tasks: Tasks
        self._ends: dict[str, End] = {}
        self._is_up = False
        self._is_closing = False
        self._flush_is_due = False
        self._connecting: asyncio.Task[None] | None = None
        self._welcomed: dict[str, asyncio.Future[Welcome]] = {}
        self._incarnation = 0
        self._puts = Puts()
        self.recent = Recent()
        """What was put lately, for the leases that come back at once."""
        self.has_storage = True
        """The queue process has room for new mail."""
        self._streams = Streams()
        self._settling: list[Settlement] = []
        self._unsettled: deque[tuple[Settlement, ...]] = deque()
        self._later: list[bytes] = []
        self._notes = Notes()
        self._is_leaving = False
        self._on: dict[int, Callable[[End, bytes], None]] = {
            Kind.WELCOME: self._on_welcome,
            Kind.STORED: self._on_stored,
            Kind.REFUSED: self._on_refused,
            Kind.STORAGE: self._on_storage,
            Kind.PART_STORED: self._on_part_stored,
            Kind.PART_REFUSED: self._on_part_refused,
            Kind.ABORTED: self._on_aborted,
            Kind.LEASE: self._on_lease,
            Kind.REPORT: self._on_report,
            Kind.SETTLED: self._on_settled,
            Kind.RESOLVE: self._on_resolve,
        }
        self._decode_refused = decoder(Refused).decode
        self._decode_lease = decoder(Lease).decode
        self._decode_report = decoder(Report).decode
        self._decode_settled = decoder(Settled).decode
        self._decode_resolve = decoder(Resolve).decode
        self._decode_welcome = decoder(Welcome).decode

    async def start(self, tasks: Tasks) -> None:
        """Connect, until the queue process knows us."""
        self._tasks = tasks
        # As a task that `lost` knows of: a queue process that dies meanwhile must not start another beside it.
        self._connecting = self._loop.create_task(self._connect())
        await self._connecting

    def close(self) -> None:
        """Write out what is gathered and end both connections."""
        self._flush()
        self._is_closing = True
        for end in self._ends.values():
            if end.transport is not None:
                end.transport.close()

    @property
    def ids(self) -> IdMaker:
        """The maker of this worker's message ids; there is one before anything is leased."""
        return self._ids

    @property
    def n_pending(self) -> int:
        """PUTs, parts, aborts and settlements that are not answered."""
        return len(self._puts) + self._streams.n_pending + len(self._unsettled) + len(self._settling)

    # What the worker says

    def put(self, head: PutHead, content: Sequence[bytes], waiter: Waiter, n_parts: int = 0, octets: int = 0) -> None:
        """Hand a message to the queue process; `waiter` hears once, later.

        With `n_parts` this is the end of a stream of that many parts, `content` goes in front of them, and `octets` are
        those of the whole message.
        """
        encoded = encode(head)
        if len(encoded) > MAX_HEAD_OCTETS:
            self._loop.call_soon(waiter.refused, REPLY_452_RECIPIENTS)
            return
        if not n_parts:
            self.recent.add(head, len(encoded), content, self._loop.time())
        said = self._puts.add(head.id, Pending(encoded, content, waiter, self._loop.time(), n_parts, octets))
        if self._is_up:
            self._ends["in"].out.extend(said)
            self._flush_soon()

    def part(self, id_: bytes, number: int, octets: memoryview, waiter: PartWaiter) -> None:
        """Hand over a part of a message; `octets` must not change until `waiter` has heard."""
        pieces = self._streams.add(id_, number, octets, waiter, self._loop.time())
        if self._is_up:
            self._ends["in"].out.extend(pieces)
            self._flush_soon()

    def abort(self, id_: bytes) -> None:
        """Say that a stream does not come to its end; nothing more is heard of it."""
        said = [self._streams.abort(id_)]
        withdrawal = self._puts.withdraw(id_, is_up=self._is_up)
        if withdrawal is not None:
            # Its end was said, too: once that is committed an abort has nothing to throw away.
            said.append(withdrawal)
        if self._is_up:
            self._ends["in"].out.extend(said)
            self._flush_soon()

    def settle(self, settlement: Settlement) -> None:
        """Say what became of a leased part."""
        self._settling.append(settlement)
        self._flush_soon()

    def greeted(self, session: int) -> None:
        """Say that a host greeted a session."""
        self._say(GREETED, Greeted(session))

    def closed(self, session: int, failure: Outcome | None) -> None:
        """Say that a session is over, and what it has not settled was not started; `failure` if its host is to blame.

        Not repeated: after a lost link HELLO says which sessions there are.
        """
        self._say(CLOSED, Closed(session, failure))

    def resolved(self, answer: Resolved) -> None:
        """Answer a RESOLVE."""
        self._say(Kind.RESOLVED, answer)

    def leave(self) -> None:
        """Say that this worker is about to end: it gets no new sessions."""
        self._is_leaving = True
        self._say(Kind.LEAVE, b"")

    def note(self, event: bytes) -> None:
        """Pass on an encoded event that nobody waits for; beyond a rate they are only counted."""
        if self._notes.add(event, self._loop.time()):
            self._flush_soon()

    def fault(self, event: bytes) -> None:
        """Pass on an encoded event of something that should not happen."""
        self._notes.add_fault(event)
        self._flush_soon()

    def tend(self) -> None:
        """Answer 451 to whoever waited longer than the grace, and take the message back; about once a second."""
        self._notes.tell_dropped()
        self._flush_soon()
        now = self._loop.time()
        self.recent.expire(now)
        until = now - self._grace_s
        withdrawals = self._puts.expire(until, REPLY_451_QUEUE_SILENT, is_up=self._is_up)
        if self._is_up:
            self._ends["in"].out.extend(withdrawals)
        self._streams.expire(until, REPLY_451_QUEUE_SILENT)

    # The connections

    async def _connect(self) -> None:
        """Open both connections, say everything again that was not answered, then READY."""
        while not await self._open_both():
            if self._is_closing:
                return
            for end in self._ends.values():
                if end.transport is not None:
                    end.transport.abort()
            await asyncio.sleep(RETRY_S)
        self._puts.n_confirmed = 0
        # All of them: what was settled before HELLO is not among what it said is held.
        self._gather()
        said_in = self._ends["in"].out
        # First: a client that was told 451 may have put its message again, under another id.
        said_in.extend(self._puts.withdrawals_again())
        said_in.extend(self._streams.again())
        said_in.extend(self._puts.again())
        said_in.extend(self._streams.aborts_again())
        self._ends["out"].out.extend(frame(SETTLE, Settle(0, settlements)) for settlements in self._unsettled)
        self._ends["out"].out.extend(self._later)
        self._later.clear()
        for end in self._ends.values():
            end.out.append(frame(Kind.READY))
        if self._is_leaving:
            self._ends["out"].out.append(frame(Kind.LEAVE))
        self._is_up = True
        self._flush()

    async def _open_both(self) -> bool:
        try:
            await self._open("out")
            await self._open("in")
        except OSError:
            return False
        return all(end.transport is not None for end in self._ends.values())

    async def _open(self, role: Literal["in", "out"]) -> None:
        end = End(self, role)
        self._ends[role] = end
        self._welcomed[role] = self._loop.create_future()
        await self._loop.create_unix_connection(lambda: cast(asyncio.Protocol, end), sock=open_link(self._data_dir))
        sessions, held = self._tasks.held() if role == "out" else ((), ())
        if role == "out":
            # What happened before is in `held`; what happens from here on until READY is not.
            self._later.clear()
        hello = Hello(LINK_VERSION, role, self._worker, self._pid, self._incarnation, CREDIT_PARTS, sessions, held)
        if end.transport is None:
            raise ConnectionError("the link was lost at once")
        end.transport.write(frame(Kind.HELLO, hello))
        welcome = await self._welcomed[role]
        if not self._incarnation:
            self._incarnation = welcome.incarnation
            self._ids = IdMaker(welcome.node, welcome.incarnation)

    def lost(self, end: End) -> None:
        """Drop the other connection too and connect again: the queue process died."""
        if end is not self._ends.get(end.role):
            return
        self._is_up = False
        waiting = self._welcomed[end.role]
        if not waiting.done():
            waiting.set_exception(ConnectionError("the link was lost"))
            return
        for other in self._ends.values():
            other.out.clear()
            if other.transport is not None:
                other.transport.abort()
        if not self._is_closing and (self._connecting is None or self._connecting.done()):
            self._connecting = self._loop.create_task(self._connect())

    def _say(self, kind: Kind, payload: object) -> None:
        # A session's settlements must be there before the word that it is over.
        self._gather()
        if self._is_up:
            self._ends["out"].out.append(frame(kind, payload))
            self._flush_soon()
        else:
            self._later.append(frame(kind, payload))

    def _flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _gather(self) -> None:
        """Make a frame of the settlements so far, or more where they would not fit one."""
        while self._settling:
            n_octets = at = 0
            while at < len(self._settling) and n_octets < FRAME_OCTETS:
                notice = self._settling[at].notice
                n_octets += RESULT_OCTETS * len(self._settling[at].results)
                n_octets += len(notice.content) if notice is not None else 0
                at += 1
            settlements = tuple(self._settling[:at])
            del self._settling[:at]
            self._unsettled.append(settlements)
            if self._is_up:
                self._ends["out"].out.append(frame(SETTLE, Settle(self._puts.n_confirmed, settlements)))

    def _flush(self) -> None:
        self._flush_is_due = False
        self._gather()
        if not self._is_up:
            return
        while self._notes:
            self._ends["out"].out.append(frame(NOTE, Note(self._notes.take())))
        for end in self._ends.values():
            end.flush()

    # What the queue process says

    def received(self, end: End, kind: int, payload: bytes) -> None:
        """Act on one frame. What goes wrong with it is told; it must not cost the link, and everyone their time."""
        try:
            self._on[kind](end, payload)
        except Exception:
            self.fault(encode_event(Fault(now_ms(), b"", "", "link", cut(traceback.format_exc()))))

    def _on_welcome(self, end: End, payload: bytes) -> None:
        self._welcomed[end.role].set_result(self._decode_welcome(payload))

    def _on_stored(self, _end: End, payload: bytes) -> None:
        self._puts.stored(payload)

    def _on_refused(self, _end: End, payload: bytes) -> None:
        self._puts.refused(self._decode_refused(payload))

    def _on_storage(self, _end: End, payload: bytes) -> None:
        self.has_storage = payload == b"\1"

    def _on_part_stored(self, _end: End, payload: bytes) -> None:
        self._streams.stored(*read_part_stored(payload))

    def _on_part_refused(self, _end: End, payload: bytes) -> None:
        refused = self._decode_refused(payload)
        self._streams.refused(refused.id, Reply(refused.code, refused.enhanced, refused.text))

    def _on_aborted(self, _end: End, payload: bytes) -> None:
        self._streams.aborted(read_id(payload))

    def _on_settled(self, _end: End, payload: bytes) -> None:
        for _ in range(self._decode_settled(payload).n_frames):
            self._unsettled.popleft()

    def _on_lease(self, _end: End, payload: bytes) -> None:
        self._tasks.lease(self._decode_lease(payload))

    def _on_report(self, _end: End, payload: bytes) -> None:
        self._tasks.report(self._decode_report(payload))

    def _on_resolve(self, _end: End, payload: bytes) -> None:
        self._tasks.resolve(self._decode_resolve(payload))
