"""One client's connection: moves octets between the transport and the Session, and applies what policy proposes.

Rule: one write a network read. 250 for a message leaves only from `stored`, which the link calls once the queue process
has said that the message is committed.

A connection is its own waiter on the link: it has at most one message there, for the session waits for its answer. It
is its own asker on the link to the state process, too: its greeting waits for the answer, and a MAIL, a RCPT or a
reply to an error where the client's network has used up its credit. What the client sends meanwhile is not looked at.
"""

import asyncio
import traceback
from collections.abc import Callable
from functools import partial
from typing import cast

from mta.accept.envelope import Origin
from mta.accept.intake import Intake
from mta.accept.progress import Progress
from mta.accept.record import Record
from mta.accept.shared import Shared
from mta.message import now_ms
from mta.reply import REPLY_250_OK, REPLY_452_STORAGE, Reply
from mta.report import Fault, cut
from mta.report import encode as encode_event
from mta.smtp import (
    REPLY_354_GO_AHEAD,
    REPLY_421_TIMEOUT,
    Chunk,
    Data,
    Hello,
    Mail,
    Message,
    Pause,
    Quit,
    Rcpt,
    Refused,
    Session,
)
from mta.state import ERRORS, MESSAGES, RECIPIENTS

__all__ = ["SmtpProtocol"]

# Bound once: see ARCHITECTURE, Choices.
DELAY = Pause.DELAY
REPLY_421_IDLE = Reply(421, "4.3.2", "Very busy, idle connections are closed")
REPLY_421_FAULT = Reply(421, "4.3.0", "Something is wrong here, try again later")
# While an answer is awaited the client may send on; past this much we stop reading and TCP holds it back.
BUFFER_OCTETS = 65_536
# How long a client may take to read the last reply.
LINGER_S = 10.0
# A client that has sent a message and is silent for so long does not send the next at once: its session ends when this
# worker leaves, or when others want its place.
IDLE_S = 2.0
# How long a client may take to see that we have ended the session.
LEAVE_S = 1.0


class SmtpProtocol:
    """A connection from accept to close: an `asyncio.Protocol` by its methods.

    A compiled class cannot have a base that is not.
    """

    def __init__(self, shared: Shared, listener: str, tenant: str, all_of_them: "set[SmtpProtocol]") -> None:
        """`all_of_them` is where it puts itself for as long as it lasts."""
        self._shared = shared
        self._all = all_of_them
        self._listener = listener
        self._tenant = tenant
        self._intake = Intake(shared)
        self._id = b""
        self._is_held = False
        self._is_reading = True
        self._is_choked = False
        self._has_all = False
        self._ending = ""
        self._n_errors = 0
        # What is done with the answer to what was asked of the state process.
        self._then: Callable[[Reply | None], None] | None = None
        self._is_leaving = False
        self.touched_at = shared.time()
        self.session = Session(shared.hostname, shared.limits, shared.max_octets)
        self._progress = Progress(self.session, self.touched_at)
        self.transport: asyncio.Transport | None = None

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask whether the client may come in."""
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        shared, origin = self._shared, Origin(peer[0] if peer else "0.0.0.0", self._listener, self._tenant)
        self._origin = origin
        self._record = Record(shared, origin, self.session)
        self._trusted = shared.policy.trusts(origin.client)
        self._all.add(self)
        self._visit = shared.visit(origin.client, self._listener, self, is_trusted=self._trusted)
        if self._visit.is_in:
            self._work(partial(self._greet, None))
        else:
            self._wait(self._greet)

    def data_received(self, data: bytes) -> None:
        """Work on one network read."""
        if not self._ending:
            self.touched_at = self._shared.time()
        self.session.receive(data)
        self._work()
        if self._shared.is_stressed:
            self._progress.note(len(data), self._shared.time())
        self._read_on(True)

    def eof_received(self) -> bool:
        """The client has sent all it will; it may still wait for the answer to its last message."""
        self._has_all = True
        return self._is_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell how it ended."""
        self.transport = None
        self._intake.drop()
        self._all.discard(self)
        self._visit.leave()
        self._record.closed(self._ending or "lost")

    def pause_writing(self) -> None:
        """The client does not read its replies: it gets no more of them to make."""
        self._is_choked = True
        self._read_on(False)

    def resume_writing(self) -> None:
        """It does again."""
        self._is_choked = False
        self._read_on(True)

    # What the service tells

    def expire(self, now: float) -> None:
        """End the session if the client was silent for too long; a client that waits for us is not silent."""
        if self._ending:
            if now > self.touched_at + LINGER_S and self.transport is not None:
                self.transport.abort()
        elif not self._is_waiting() and not self._intake.is_full:
            shared, session, silent_s = self._shared, self.session, now - self.touched_at
            if (now - self._progress.at if shared.is_stressed else silent_s) > session.timeout_s:
                self._end(REPLY_421_TIMEOUT, "timeout")
            elif session.n_messages and silent_s > IDLE_S:
                if shared.parting is not None:
                    self.shut_down(shared.parting)
                elif shared.is_stressed and session.sender is None:
                    self._end(REPLY_421_IDLE, "shutdown")

    def take_limits(self) -> None:
        """Stress has begun or is over."""
        self.session.limits = self._shared.limits
        self._progress.begin(self._shared.time())

    def shut_down(self, reply: Reply) -> None:
        """End the session as soon as no transaction is open."""
        self.session.shutdown(reply)
        self._work()

    def abort(self) -> None:
        """Drop the connection."""
        if self.transport is not None:
            self.transport.abort()

    # What the state process tells

    def answered(self, refusal: Reply | None) -> None:
        """What was asked for is granted, or this is what the client shall hear."""
        then, self._then = self._then, None
        self._is_held = False
        self.touched_at = self._shared.time()
        if then is not None:
            self._work(partial(then, refusal))
            self._read_on(True)

    # What the link tells

    def stored(self) -> None:
        """The message is on the disk: say so."""
        self._answered(Reply(250, "2.0.0", f"Ok: queued as {self._id.hex()}"))

    def refused(self, reply: Reply) -> None:
        """It is not."""
        self._record.reject("message", reply)
        self._answered(reply)

    def go_on(self) -> None:
        """There is room for more of a large message."""
        self._come_on()
        self._read_on(True)

    # Inside

    def _wait(self, then: Callable[[Reply | None], None]) -> None:
        """Do nothing until the state process has answered; `then` gets what refuses, or None."""
        self._is_held = True
        self._then = then

    def _greet(self, refusal: Reply | None) -> None:
        if self._shared.is_stopping:
            self.session.greet(self._shared.parting)
            return
        self.session.greet(refusal)
        if refusal is not None:
            self._record.reject("connect", refusal)

    def _end(self, reply: Reply, reason: str) -> None:
        self.touched_at = self._shared.time()
        self.session.end(reply, reason)
        self._work()

    def _come_on(self) -> None:
        """It was ours to act, and we have: the client's time begins."""
        self.touched_at = self._shared.time()
        self._progress.begin(self.touched_at)

    def _is_waiting(self) -> bool:
        return self._is_held or bool(self._id)

    def _answered(self, reply: Reply) -> None:
        self._id = b""
        self._intake.drop()
        if self.transport is not None:
            self.session.answer(reply)
            self._come_on()
            self._work()
            self._read_on(True)

    def _work(self, first: Callable[[], None] | None = None) -> None:
        """Do `first`, pull events until there are no more, then write every reply at once."""
        if self._is_held or self.transport is None:
            return
        try:
            if first is not None:
                first()
            pause = self._pull()
        except Exception:  # the fence: one session's fault must not end the others'
            detail = cut(traceback.format_exc())
            self._shared.link.fault(encode_event(Fault(now_ms(), b"", self._tenant, "session", detail)))
            self._ending = "fault"
            # What was answered before stands: a 250 kept back would bring the message twice.
            self.transport.write(self.session.output() + REPLY_421_FAULT.wire)
            self.transport.close()
            return
        if self.session.n_errors_ever != self._n_errors and not self._may_err():
            return
        if pause is DELAY:
            self._is_held = True
            self._shared.later(self._shared.limits.error_delay_s, self._resume)
            return
        output = self.session.output()
        if output:
            self.transport.write(output)
        if self._ending == "shutdown" and self.transport.can_write_eof():
            self._leave(self.transport)
        elif self._ending or (self._has_all and not self._is_waiting()):
            self.transport.close()

    def _leave(self, transport: asyncio.Transport) -> None:
        """Close in order a session that the client did not end: what it is just sending would be answered by a reset,
        and that would take our 421 from it. So that is read, until it closes, too, or a moment is over."""
        if not self._is_leaving:
            self._is_leaving = True
            transport.write_eof()
            self._shared.later(LEAVE_S, self.abort)
            self._read_on(True)

    def _may_err(self) -> bool:
        """Count new errors of the client; False when its replies have to wait for whether it may make them."""
        n_errors = self.session.n_errors_ever - self._n_errors
        if self._is_held:
            # It waits for something else already: they are counted after that.
            return True
        self._n_errors += n_errors
        if self._ending:
            self._visit.add(ERRORS, n_errors)
        elif not self._visit.take(ERRORS, n_errors):
            self._wait(self._judge_errors)
            return False
        return True

    def _judge_errors(self, refusal: Reply | None) -> None:
        if refusal is None:
            return
        if refusal.code == 421 and not self._id:
            self.session.end(refusal, "errors")
        elif refusal.code == 421:
            # A message is on its way to the disk: its 250 is said first.
            self.session.shutdown(refusal)

    def _resume(self) -> None:
        self._is_held = False
        self.session.resume()
        self._work()
        self._read_on(True)

    def _pull(self) -> Pause:
        session = self.session
        while True:
            event = session.next_event()
            if type(event) is Pause:
                if self._intake.is_streaming and session.is_spoiled:
                    # It is read to its true end all the same, however long that takes.
                    self._intake.drop()
                    self._read_on(True)
                return event
            if type(event) is Rcpt:
                self._rcpt(event)
            elif type(event) is Mail:
                self._mail(event)
            elif type(event) is Hello:
                session.answer(REPLY_250_OK)
            elif type(event) is Data:
                self._data()
            elif type(event) is Chunk:
                self._intake.add(event.data, self)
                if self._intake.is_streaming:
                    self._read_on(True)
            elif type(event) is Message:
                self._message(event)
            elif type(event) is Refused:
                self._refused(event)
            elif type(event) is Quit:
                # Turned away because we leave: that is not refused.
                is_ours = event.reason == "refused" and self._shared.parting is not None
                self._ending = "shutdown" if is_ours else event.reason
            else:
                raise TypeError(f"the session tells {event!r}")

    def _mail(self, event: Mail) -> None:
        parting = self._shared.parting
        if parting is not None and self.session.n_messages:
            self.session.answer(parting)
        elif not self._shared.has_room:
            self._answer_mail(event, REPLY_452_STORAGE)
        elif self._visit.take(MESSAGES):
            self.session.answer(REPLY_250_OK)
        else:
            self._wait(partial(self._answer_mail, event))

    def _answer_mail(self, event: Mail, refusal: Reply | None) -> None:
        if refusal is not None:
            self._record.reject("mail", refusal, sender=event.sender.text)
        self.session.answer(refusal or REPLY_250_OK)

    def _rcpt(self, event: Rcpt) -> None:
        if self._visit.take(RECIPIENTS):
            self._answer_rcpt(event, None)
        else:
            self._wait(partial(self._answer_rcpt, event))

    def _answer_rcpt(self, event: Rcpt, refusal: Reply | None) -> None:
        verdict = refusal or self._shared.policy.rcpt(event.recipient, self._trusted)
        if isinstance(verdict, Reply):
            self._record.reject("rcpt", verdict, event.recipient.text)
            self.session.answer(verdict)
        else:
            self.session.answer(REPLY_250_OK, verdict)

    def _refused(self, event: Refused) -> None:
        """The session refused something by itself."""
        if event.stage == "message":
            self._intake.drop()
        self._record.refused(event)

    def _data(self) -> None:
        if self._shared.has_room:
            self.session.answer(REPLY_354_GO_AHEAD)
        else:
            self._record.reject("data", REPLY_452_STORAGE)
            self.session.answer(REPLY_452_STORAGE)

    def _message(self, event: Message) -> None:
        taken = self._intake.finish(self.session, self._origin, event, self)
        if isinstance(taken, Reply):
            self._refuse(taken)
        else:
            self._id = taken

    def _refuse(self, reply: Reply) -> None:
        """Answer a message that was read and is not taken."""
        self._intake.drop()
        self._record.reject("message", reply)
        self.session.answer(reply)

    def _read_on(self, wanted: bool) -> None:
        transport = self.transport
        # A client that sends on and on without waiting for answers waits here, in its own kernel.
        has_room = self.session.n_buffered <= BUFFER_OCTETS
        wanted = wanted and has_room and not self._is_choked and not self._intake.is_full
        if transport is not None and wanted != self._is_reading and not transport.is_closing():
            self._is_reading = wanted
            if wanted:
                transport.resume_reading()
            else:
                transport.pause_reading()
