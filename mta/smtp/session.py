"""The server side of one SMTP connection, without socket and clock. RFC 5321, 2920, 1870, 6152, 6531, 2034.

The driver greets, hands in each network read, and pulls until there is nothing more to do:

    session.receive(data)
    while not isinstance(event := session.next_event(), Pause):
        ...                                     # Hello, Mail, Rcpt, Data, Message: session.answer(reply), now or later
    transport.write(session.output())           # every reply of a pipelined group in one write

Rule: a command is first legal (states), then well formed (address, params), then allowed (the driver's answer); only
then does the state move. What a client sent never raises. Calling `answer` when nothing was asked is a bug.

The envelope (`sender`, `recipients`, ...) stands until the answer to Message was given, and while a Refused of stage
"message" is handled. RFC 5321 s4.1.1.4.
"""

from collections.abc import Callable

from mta._fast import BAD_LINE, UNKNOWN, find_line, split_command
from mta.config import Limits
from mta.message import Address
from mta.reply import REPLY_250_OK, Reply, printable
from mta.smtp.address import is_hello_name, parse_forward_path, parse_reverse_path
from mta.smtp.body import Body
from mta.smtp.events import Chunk, Data, Event, Hello, Mail, Message, Pause, Quit, Rcpt, Refused
from mta.smtp.extensions import hello_rows
from mta.smtp.params import parse_mail_params, parse_rcpt_params
from mta.smtp.replies import (
    REPLY_214_HELP,
    REPLY_221_BYE,
    REPLY_252_VRFY,
    REPLY_421_ERRORS,
    REPLY_452_RECIPIENTS,
    REPLY_500_LINE,
    REPLY_500_TOO_LONG,
    REPLY_500_UNKNOWN,
    REPLY_501_HELLO,
    REPLY_501_NO_ARGUMENT,
    REPLY_501_VRFY,
    REPLY_502_NOT_OFFERED,
    REPLY_552_TOO_LARGE,
    REPLY_553_NOT_ASCII,
    bad_path,
)
from mta.smtp.states import ROWS, State, Verb, explain

__all__ = ["Session"]

# Bound once: see ARCHITECTURE, Choices.
START, READY, MAIL, RCPT, DATA, CLOSED = State.START, State.READY, State.MAIL, State.RCPT, State.DATA, State.CLOSED
NEED_DATA, VERDICT, DELAY = Pause.NEED_DATA, Pause.VERDICT, Pause.DELAY
# RFC 5321 s4.5.3.1.4 asks for 512 octets with the line end, and extensions for more; nothing honest needs this much.
LINE_OCTETS = 2048
# The client can do nothing about these.
NOT_THE_CLIENTS_FAULT = frozenset({421, 451, 452})
NAMELESS = {UNKNOWN: REPLY_500_UNKNOWN, BAD_LINE: REPLY_500_LINE}
STAGES = {Verb.EHLO: "helo", Verb.HELO: "helo", Verb.MAIL: "mail", Verb.RCPT: "rcpt", Verb.DATA: "data"}


class Session:
    """One connection from its greeting to its end."""

    def __init__(self, hostname: str, limits: Limits, max_octets: int) -> None:
        """Begin for `hostname`, our own name; `max_octets` is the largest message, as SIZE announces it."""
        self.state = START
        self.helo = ""
        """What the client called itself, as given; "" before EHLO or HELO."""
        self.esmtp = False
        """True after EHLO."""
        self.limits = limits
        """May be replaced at any time, by stricter ones and back."""
        self.n_errors = 0
        """Errors since the greeting or the last accepted message."""
        self.n_errors_ever = 0
        """Errors since the greeting."""
        self.n_messages = 0
        """Messages accepted."""
        self._hostname = hostname
        self._max_octets = max_octets
        self._buffer = b""
        self._at = 0
        self._skipping = False
        self._replies: list[bytes] = []
        # Where the command at hand leads, if it is accepted.
        self._move = START
        self._asked: Hello | Mail | Rcpt | Data | Message | None = None
        # Nothing is read before the greeting was given.
        self._pause: Pause | None = VERDICT
        self._parting: Reply | None = None
        self._farewell: Quit | None = None
        self.reset_transaction()

    def reset_transaction(self) -> None:
        """Forget the transaction, and nothing else. RFC 5321 s4.1.1.5."""
        self.sender: Address | None = None
        """The accepted reverse-path, NULL_PATH for `<>`; None when no transaction is open."""
        self.recipients: list[Address] = []
        """The accepted forward-paths, in order. A new list for each transaction: it may be kept."""
        self.utf8 = False
        """SMTPUTF8 was given. RFC 6531."""
        self.body_8bit = False
        """BODY=8BITMIME was given. RFC 6152."""
        self._body: Body | None = None
        if self.state in (MAIL, RCPT, DATA):
            self.state = READY

    @property
    def protocol(self) -> str:
        """The protocol name for Received and events. RFC 3848, RFC 6531 s4.3."""
        if self.utf8:
            return "UTF8SMTP"
        return "ESMTP" if self.esmtp else "SMTP"

    @property
    def timeout_s(self) -> float:
        """How long the client may be silent now, in seconds."""
        limits = self.limits
        return limits.data_timeout_s if ROWS[self.state].wait == "data" else limits.command_timeout_s

    @property
    def n_buffered(self) -> int:
        """Octets received and not yet worked off."""
        return len(self._buffer) - self._at

    @property
    def is_spoiled(self) -> bool:
        """The message that is coming in will be refused, whatever comes of it yet."""
        return self._body is not None and self._body.find_fault() is not None

    def greet(self, reply: Reply | None = None) -> None:
        """Give the greeting, once and first; with a `reply` refuse the connection, and Quit follows."""
        self._pause = None
        if reply is None:
            self._replies.append(f"220 {self._hostname} ESMTP Posthaste\r\n".encode())
        else:
            self._close(reply, "refused")

    def receive(self, data: bytes) -> None:
        """Take one network read, cut anywhere. After the end of the session it is dropped."""
        if self.state is CLOSED:
            return
        if self._at < len(self._buffer):
            data = self._buffer[self._at :] + data
        self._buffer = data
        self._at = 0

    def output(self) -> bytes:
        """Return every reply since the last call, b"" for none: one write."""
        replies, self._replies = self._replies, []
        return b"".join(replies)

    def next_event(self) -> Event | Pause:
        """Work on until there is something to tell; a Pause says why there is nothing now."""
        while self._pause is None:
            state = self.state
            if state is DATA:
                event = self._read_body()
            elif state is CLOSED:
                event, self._farewell = self._farewell or NEED_DATA, None
            elif self._parting is not None and self.sender is None:
                self._close(self._parting, "shutdown")
                continue
            else:
                event = self._read_command()
            if event is not None:
                return event
        return self._pause

    def answer(self, reply: Reply, recipient: Address | None = None) -> None:
        """Give the verdict on the event that waits; below 400 it is accepted, and the state moves.

        `recipient` replaces the address of an accepted Rcpt. A 421 ends the session (RFC 5321 s4.2.1: that is its
        meaning). Does nothing once the session is over; RuntimeError when nothing was asked.
        """
        asked, self._asked, self._pause = self._asked, None, None
        if asked is None:
            if self.state is CLOSED:
                return
            raise RuntimeError("answer() without an event that waits for one")
        if reply.code >= 400:
            if type(asked) is Message:
                self.reset_transaction()
            self._reply_error(reply)
            return
        wire = reply.wire
        if type(asked) is Rcpt:
            self.recipients.append(recipient or asked.recipient)
        elif type(asked) is Mail:
            self.sender, self.body_8bit, self.utf8 = asked.sender, asked.body_8bit, asked.utf8
        elif type(asked) is Message:
            self.reset_transaction()
            self.n_messages += 1
            # A relay that keeps its connection for days must not be shown the door for a dead recipient now and then.
            self.n_errors = 0
        elif type(asked) is Data:
            self._body = Body(self.limits, self._max_octets)
        elif type(asked) is Hello:
            self.helo, self.esmtp = asked.name, asked.esmtp
            # RFC 5321 s4.1.4: EHLO in the middle of a session is a RSET too.
            self.reset_transaction()
            wire = hello_rows(self._hostname, self._max_octets, esmtp=asked.esmtp)
        self.state = self._move
        self._replies.append(wire)

    def resume(self) -> None:
        """End a DELAY."""
        if self._pause is DELAY:
            self._pause = None

    def shutdown(self, reply: Reply) -> None:
        """Answer `reply`, a 421, and quit as soon as no transaction is open. Pull `next_event` after this."""
        self._parting = reply

    def end(self, reply: Reply, reason: str) -> None:
        """Answer `reply`, a 421, and quit at once, whatever is open. Pull `next_event` after this."""
        if self.state is not CLOSED:
            self._pause = None
            self._close(reply, reason)

    def _read_command(self) -> Event | Pause | None:
        buffer, start = self._buffer, self._at
        end = find_line(buffer, start)
        if end < 0:
            # Kept, an endless line would fill the memory.
            self._skipping = self._skipping or len(buffer) - start >= LINE_OCTETS
            if self._skipping or start == len(buffer):
                self._buffer, self._at = b"", 0
            return NEED_DATA
        self._at = end
        if self._skipping or end - start > LINE_OCTETS:
            self._skipping = False
            self._reply_error(REPLY_500_TOO_LONG)
            return None
        code, argument = split_command(buffer, start, end)
        run = COMMANDS.get(code)
        if run is None:
            self._reply_error(NAMELESS.get(code, REPLY_502_NOT_OFFERED))
            return None
        move = ROWS[self.state].moves.get(code)
        if move is None:
            return self._refuse(STAGES[Verb(code)], explain(self.state, code), argument)
        self._move = move
        return run(self, argument)

    def _ehlo(self, argument: bytes) -> Event:
        return self._hello(argument, True)

    def _helo(self, argument: bytes) -> Event:
        return self._hello(argument, False)

    def _hello(self, argument: bytes, esmtp: bool) -> Event:
        if not is_hello_name(argument):
            return self._refuse("helo", REPLY_501_HELLO, argument)
        return self._ask(Hello(argument.decode("ascii"), esmtp))

    def _mail(self, argument: bytes) -> Event:
        path = parse_reverse_path(argument)
        if isinstance(path, str):
            return self._refuse("mail", bad_path(path, "5.1.7"), argument)
        sender, parameters = path
        params = parse_mail_params(parameters)
        if isinstance(params, Reply):
            return self._refuse("mail", params, argument)
        if not params.utf8 and not sender.text.isascii():
            return self._refuse("mail", REPLY_553_NOT_ASCII, argument)
        # RFC 1870 s6.1: what is too large need not be sent at all.
        if params.size > self._max_octets:
            return self._refuse("mail", REPLY_552_TOO_LARGE, argument)
        return self._ask(Mail(sender, params.size, params.body_8bit, params.utf8))

    def _rcpt(self, argument: bytes) -> Event:
        path = parse_forward_path(argument)
        if isinstance(path, str):
            return self._refuse("rcpt", bad_path(path, "5.1.3"), argument)
        recipient, parameters = path
        if parameters and (refusal := parse_rcpt_params(parameters)) is not None:
            return self._refuse("rcpt", refusal, argument)
        if not self.utf8 and not recipient.text.isascii():
            return self._refuse("rcpt", REPLY_553_NOT_ASCII, argument)
        # RFC 5321 s4.5.3.1.10: 452, for the client sends the rest in another transaction.
        if len(self.recipients) >= self.limits.recipients:
            return self._refuse("rcpt", REPLY_452_RECIPIENTS, argument)
        return self._ask(Rcpt(recipient))

    def _data(self, argument: bytes) -> Event:
        if argument:
            return self._refuse("data", REPLY_501_NO_ARGUMENT, argument)
        return self._ask(Data())

    def _rset(self, argument: bytes) -> None:
        if argument:
            return self._reply_error(REPLY_501_NO_ARGUMENT)
        self.reset_transaction()
        return self._replies.append(REPLY_250_OK.wire)

    def _noop(self, argument: bytes) -> None:
        self._replies.append(REPLY_250_OK.wire)

    def _vrfy(self, argument: bytes) -> None:
        if not argument:
            return self._reply_error(REPLY_501_VRFY)
        return self._replies.append(REPLY_252_VRFY.wire)

    def _help(self, argument: bytes) -> None:
        self._replies.append(REPLY_214_HELP.wire)

    def _quit(self, argument: bytes) -> None:
        if argument:
            return self._reply_error(REPLY_501_NO_ARGUMENT)
        return self._close(REPLY_221_BYE, "quit")

    def _read_body(self) -> Event | Pause | None:
        body = self._body
        if body is None:
            # The refusal was told with the envelope still in place; now it may go.
            self.reset_transaction()
            return None
        reader = body.reader
        if not reader.done:
            if self._at == len(self._buffer):
                return NEED_DATA
            octets, self._at = reader.feed(self._buffer, self._at)
            if self._at == len(self._buffer):
                self._buffer, self._at = b"", 0
            if octets and body.find_fault() is None:
                return Chunk(octets)
            if not reader.done:
                return None
        if (fault := body.find_fault()) is not None:
            self._body = None
            return self._refuse("message", fault, b"")
        self._move = READY
        return self._ask(Message(reader.octets, reader.bare_line_end, reader.has_8bit))

    def _ask(self, event: Hello | Mail | Rcpt | Data | Message) -> Event:
        self._asked = event
        self._pause = VERDICT
        return event

    def _refuse(self, stage: str, reply: Reply, argument: bytes) -> Refused:
        self._reply_error(reply)
        return Refused(stage, reply, printable(argument.decode("utf-8", "replace")))

    def _reply_error(self, reply: Reply) -> None:
        self._replies.append(reply.wire)
        if reply.code in NOT_THE_CLIENTS_FAULT:
            if reply.code == 421:
                self._close(None, "refused")
            return
        self.n_errors += 1
        self.n_errors_ever += 1
        if self.n_errors >= self.limits.soft_errors:
            self._pause = DELAY
        if self.n_errors >= self.limits.hard_errors:
            self._close(REPLY_421_ERRORS, "errors")

    def _close(self, reply: Reply | None, reason: str) -> None:
        if reply is not None:
            self._replies.append(reply.wire)
        self.state = CLOSED
        self._farewell = Quit(reason)
        self._buffer, self._at, self._asked = b"", 0, None


COMMANDS: dict[int, Callable[[Session, bytes], Event | None]] = {
    Verb.EHLO: Session._ehlo,
    Verb.HELO: Session._helo,
    Verb.MAIL: Session._mail,
    Verb.RCPT: Session._rcpt,
    Verb.DATA: Session._data,
    Verb.RSET: Session._rset,
    Verb.NOOP: Session._noop,
    Verb.VRFY: Session._vrfy,
    Verb.HELP: Session._help,
    Verb.QUIT: Session._quit,
}
