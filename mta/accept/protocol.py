"""One client's connection: moves octets between the transport and the Session, and applies what policy proposes.

Rule: one write a network read. 250 for a message leaves only from `stored`, which the link calls once the queue process
has said that the message is committed.

A connection is its own waiter on the link: it has at most one message there, for the session waits for its answer.
"""

import asyncio
import traceback
from typing import cast

from mta.accept.envelope import Origin
from mta.accept.shared import Shared
from mta.accept.stream import Stream
from mta.link import PUT_OCTETS
from mta.message import now_ms
from mta.reply import REPLY_250_OK, REPLY_452_STORAGE, Reply
from mta.report import ConnectionClosed, Fault, Rejected, cut
from mta.report import encode as encode_event
from mta.smtp import (
    REPLY_354_GO_AHEAD,
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

__all__ = ["SmtpProtocol"]

REPLY_421_TOO_MANY = Reply(421, "4.3.2", "Too many connections, try again later")
REPLY_421_FAULT = Reply(421, "4.3.0", "Something is wrong here, try again later")
# While an answer is awaited the client may send on; past this much we stop reading and TCP holds it back.
BUFFER_OCTETS = 65_536
# How long a client may take to read the last reply.
LINGER_S = 10.0


class SmtpProtocol(asyncio.Protocol):
    """A connection from accept to close."""

    def __init__(self, shared: Shared, listener: str, tenant: str, all_of_them: "set[SmtpProtocol]") -> None:
        """`all_of_them` is where it puts itself for as long as it lasts."""
        self._shared = shared
        self._all = all_of_them
        self._listener = listener
        self._tenant = tenant
        self._trusted = False
        self._chunks: list[bytes] = []
        self._n_octets = 0
        self._void: Reply | None = None
        self._stream: Stream | None = None
        self._id = b""
        self._is_held = False
        self._is_reading = True
        self._is_choked = False
        self._has_all = False
        self._ending = ""
        self.touched_at = self._began_at = shared.time()
        self.session = Session(shared.hostname, shared.limits, shared.max_octets)
        self.transport: asyncio.Transport | None = None

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or turn away who is too many."""
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._origin = Origin(peer[0] if peer else "0.0.0.0", self._listener, self._tenant)
        self._trusted = self._shared.policy.trusts(self._origin.client)
        self._all.add(self)
        if len(self._all) <= self._shared.most_connections:
            self.session.greet()
        else:
            self.session.greet(REPLY_421_TOO_MANY)
            self._reject("connect", REPLY_421_TOO_MANY, "")
        self._work()

    def data_received(self, data: bytes) -> None:
        """Work on one network read."""
        self.touched_at = self._shared.time()
        self.session.receive(data)
        self._work()
        self._read_on(True)

    def eof_received(self) -> bool:
        """The client has sent all it will; it may still wait for the answer to its last message."""
        self._has_all = True
        return self._is_waiting

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell how it ended."""
        self.transport = None
        self._drop_body()
        self._all.discard(self)
        session = self.session
        lasted_s = self._shared.time() - self._began_at
        self._shared.note(
            encode_event(
                ConnectionClosed(
                    now_ms(),
                    b"",
                    self._tenant,
                    self._origin.client,
                    session.helo,
                    self._listener,
                    session.n_messages,
                    session.n_errors,
                    round(lasted_s, 3),
                    self._ending or "lost",
                )
            )
        )

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
        elif not self._is_waiting and not self._is_held_back and now > self.touched_at + self.session.timeout_s:
            self.touched_at = now
            self.session.timeout()
            self._work()

    def shut_down(self, reply: Reply) -> None:
        """End the session as soon as no transaction is open."""
        self.session.shutdown(reply)
        self._work()

    def abort(self) -> None:
        """Drop the connection."""
        if self.transport is not None:
            self.transport.abort()

    # What the link tells

    def stored(self) -> None:
        """The message is on the disk: say so."""
        self._answered(Reply(250, "2.0.0", f"Ok: queued as {self._id.hex()}"))

    def refused(self, reply: Reply) -> None:
        """It is not."""
        self._reject("message", reply, "")
        self._answered(reply)

    def go_on(self) -> None:
        """There is room for more of a large message."""
        self.touched_at = self._shared.time()
        self._read_on(True)

    # Inside

    @property
    def _is_held_back(self) -> bool:
        return self._stream is not None and self._stream.is_full

    @property
    def _is_waiting(self) -> bool:
        return self._is_held or bool(self._id)

    def _answered(self, reply: Reply) -> None:
        self._id = b""
        self._drop_body()
        self.touched_at = self._shared.time()
        if self.transport is not None:
            self.session.answer(reply)
            self._work()
            self._read_on(True)

    def _work(self) -> None:
        """Pull events until there are no more, then write every reply at once."""
        if self._is_held or self.transport is None:
            return
        try:
            pause = self._pull()
        except Exception:  # the fence: one session's fault must not end the others'
            detail = cut(traceback.format_exc())
            self._shared.link.fault(encode_event(Fault(now_ms(), b"", self._tenant, "session", detail)))
            self._ending = "fault"
            # What was answered before stands: a 250 kept back would bring the message twice.
            self.transport.write(self.session.output() + REPLY_421_FAULT.wire)
            self.transport.close()
            return
        if pause is Pause.DELAY:
            self._is_held = True
            self._shared.later(self._shared.limits.error_delay_s, self._resume)
            return
        output = self.session.output()
        if output:
            self.transport.write(output)
        if self._ending or (self._has_all and not self._is_waiting):
            self.transport.close()

    def _resume(self) -> None:
        self._is_held = False
        self.session.resume()
        self._work()
        self._read_on(True)

    def _pull(self) -> Pause:
        session = self.session
        while True:
            event = session.next_event()
            kind = type(event)
            if kind is Pause:
                if self._stream is not None and session.is_spoiled:
                    # It is read to its true end all the same, however long that takes.
                    self._drop_body()
                    self._read_on(True)
                return cast(Pause, event)
            if kind is Rcpt:
                self._rcpt(cast(Rcpt, event))
            elif kind is Mail:
                self._mail(cast(Mail, event))
            elif kind is Hello:
                session.answer(REPLY_250_OK)
            elif kind is Data:
                self._data()
            elif kind is Chunk:
                self._chunk(cast(Chunk, event).data)
            elif kind is Message:
                self._message(cast(Message, event))
            elif kind is Refused:
                self._refused(cast(Refused, event))
            else:
                self._ending = cast(Quit, event).reason

    def _mail(self, event: Mail) -> None:
        if self._shared.has_room:
            self.session.answer(REPLY_250_OK)
        else:
            self._reject("mail", REPLY_452_STORAGE, "", sender=event.sender.text)
            self.session.answer(REPLY_452_STORAGE)

    def _rcpt(self, event: Rcpt) -> None:
        verdict = self._shared.policy.rcpt(event.recipient, self._trusted)
        if isinstance(verdict, Reply):
            self._reject("rcpt", verdict, event.recipient.text)
            self.session.answer(verdict)
        else:
            self.session.answer(REPLY_250_OK, verdict)

    def _refused(self, event: Refused) -> None:
        """The session refused something by itself."""
        if event.stage == "message":
            self._drop_body()
        if event.stage == "mail":
            self._reject(event.stage, event.reply, "", sender=_path(event.argument))
        elif event.stage == "rcpt":
            self._reject(event.stage, event.reply, _path(event.argument))
        else:
            self._reject(event.stage, event.reply, "", helo=event.argument if event.stage == "helo" else "")

    def _data(self) -> None:
        if self._shared.has_room:
            self.session.answer(REPLY_354_GO_AHEAD)
        else:
            self._reject("data", REPLY_452_STORAGE, "")
            self.session.answer(REPLY_452_STORAGE)

    def _chunk(self, data: bytes) -> None:
        stream = self._stream
        if stream is not None:
            stream.add(data)
            self._read_on(True)
        elif self._void is None:
            self._chunks.append(data)
            self._n_octets += len(data)
            if not self._shared.hold(len(data)):
                # Read on to the end of the message, but keep none of it.
                self._drop_body()
                self._void = REPLY_452_STORAGE
            elif self._n_octets > PUT_OCTETS:
                first = b"".join(self._chunks)
                self._drop_body()
                self._stream = Stream(self._shared, self, first)

    def _drop_body(self) -> None:
        if self._stream is not None:
            self._stream.abort()
            self._stream = None
        self._shared.release(self._n_octets)
        self._chunks, self._n_octets, self._void = [], 0, None

    def _message(self, event: Message) -> None:
        shared, session, stream = self._shared, self.session, self._stream
        if stream is not None:
            refusal = stream.finish(session, self._origin, event)
            if refusal is None:
                self._id = stream.id
            else:
                self._refuse(refusal)
            return
        void = self._void
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = []
        id_ = shared.ids.make()
        built = void or shared.builder.build(
            id_, session, self._origin, body, bare=event.bare_line_end, has_8bit=event.has_8bit
        )
        if isinstance(built, Reply):
            self._refuse(built)
        else:
            self._id = id_
            shared.link.put(built[0], built[1], self)

    def _refuse(self, reply: Reply) -> None:
        """Answer a message that was read and is not taken."""
        self._drop_body()
        self._reject("message", reply, "")
        self.session.answer(reply)

    def _read_on(self, wanted: bool) -> None:
        transport = self.transport
        # A client that sends on and on without waiting for answers waits here, in its own kernel.
        has_room = self.session.n_buffered <= BUFFER_OCTETS
        wanted = wanted and has_room and not self._is_choked and not self._is_held_back
        if transport is not None and wanted != self._is_reading and not transport.is_closing():
            self._is_reading = wanted
            if wanted:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _reject(self, stage: str, reply: Reply, recipient: str, *, sender: str = "", helo: str = "") -> None:
        """Tell that something was refused; `sender` and `helo` where they are what was."""
        accepted = self.session.sender
        self._shared.note(
            encode_event(
                Rejected(
                    now_ms(),
                    b"",
                    self._tenant,
                    self._origin.client,
                    helo or self.session.helo,
                    stage,
                    accepted.text if accepted is not None else sender,
                    recipient,
                    reply.code,
                    reply.enhanced,
                    reply.text,
                )
            )
        )


def _path(argument: str) -> str:
    """Return what stands between the angle brackets of a MAIL or RCPT argument that was refused, or all of it."""
    path = argument.partition(":")[2].strip() or argument
    return path.partition(">")[0].removeprefix("<")
