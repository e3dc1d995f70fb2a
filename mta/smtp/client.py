"""The client side of one SMTP connection, without socket and clock. RFC 5321, RFC 2920, RFC 1870, RFC 6152, RFC 6531.

The driver calls `receive` with each network read and `deliver` with each letter, then takes `events()` and writes
`output()`: one read leads to one write at most. After `Over` it writes what is left (QUIT) and closes the connection.

Rule: what is awaited is a queue of steps, one for each command that was written. A reply answers the oldest; a reply to
something that was not yet written ends the session. So a group of commands and a single one are the same thing, and
with PIPELINING the group of the next letter goes out right behind the final dot of the one before: RFC 2920 s3.1
names the commands that must be last in a group, and the dot is not among them.

A large letter goes out piece by piece: while `is_sending`, the driver calls `send_more` whenever there is room. A reply
before all of it was written is the last word on the letter, and ends the session.

Every letter is reported once: by `Done`, or in `Over.left` if it was not started. Nothing a peer sends raises.
"""

import re
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from mta._fast import DotStuffer, ReplyReader
from mta.config import Deliver
from mta.message import Outcome, Status
from mta.smtp.extensions import NOTHING, read_ehlo
from mta.smtp.letter import Done, Letter, Over, Ready, TryNext
from mta.smtp.outcomes import outcome_of, possible_repeat, refusal_of
from mta.smtp.params import mail_params
from mta.smtp.transaction import Step, Transaction

__all__ = ["Client"]

Event = Ready | Done[Any] | Over[Any]
# Bound once: see ARCHITECTURE, Choices.
MAIL, RCPT, DATA, BODY, DOT = Step.MAIL, Step.RCPT, Step.DATA, Step.BODY, Step.DOT
SURROGATE = re.compile("[\ud800-\udfff]")


class Client:
    """One connection; `remote_mta` names the peer in outcomes, "name [address]", `limits` gives the two time-outs.

    Letters come back in events as the driver gave them.
    """

    def __init__(self, hostname: str, remote_mta: str, limits: Deliver) -> None:
        self.is_over = False
        """`Over` was told; nothing more will be."""
        self.n_replies = 0
        """Replies that were read to their end: a peer that is still at one has not answered yet."""
        self._hostname = hostname
        self._remote_mta = remote_mta
        self._limits = limits
        self._reader = ReplyReader()
        self._expected: deque[Step] = deque([Step.GREETING])
        self._waiting: deque[Letter] = deque()
        self._open: deque[Transaction] = deque()
        self._events: list[Event] = []
        self._output: list[bytes] = []
        self._is_ready = False
        self._needs_rset = False
        self._has_settled = False
        self._stuffer = DotStuffer()
        self._n_sent = 0
        self._offers = NOTHING
        # The reply that is coming in began before anything was asked.
        self._is_early = False

    @property
    def is_idle(self) -> bool:
        """Nothing is awaited from the peer and no letter waits."""
        return not self._expected and not self._waiting

    @property
    def timeout_s(self) -> float:
        """How long the peer may be silent now, seconds; 0 when nothing is awaited."""
        if not self._expected:
            return 0.0
        return self._limits.data_done_timeout_s if self._expected[0] >= DOT else self._limits.command_timeout_s

    @property
    def is_sending(self) -> bool:
        """A letter was begun whose next piece waits for `send_more`."""
        return bool(self._expected) and self._expected[-1] is BODY

    def send_more(self) -> None:
        """Write the next piece of the letter. Calling it when not `is_sending` is a bug."""
        self._send_piece(self._open[0].letter)
        self._pump()

    def deliver(self, letter: Letter) -> None:
        """Take one more letter, to be sent after those it has. Calling it when the session is over is a bug."""
        self._waiting.append(letter)
        self._pump()

    def withdraw(self) -> list[Any]:
        """Give back the letters that were not started; those under way are finished."""
        left, self._waiting = list(self._waiting), deque()
        return left

    def receive(self, data: bytes) -> None:
        """Take one network read, cut anywhere."""
        expected = self._expected
        n_asked = len(expected)
        replies = self._reader.feed(data)
        self.n_replies += len(replies)
        for code, text in replies:
            if self.is_over:
                return
            if code == 421:
                self._close(self._outcome("deferred", code, text, "the peer ended the session"))
            elif not n_asked or self._is_early:
                self._end(self._outcome("deferred", code, text, "the peer answered what was not asked", "4.5.0"))
            else:
                n_asked -= 1
                step = expected.popleft()
                row = TABLE[step]
                if step is MAIL:
                    self._open[0].is_touched = True
                if code // 100 in row.classes:
                    row.answer(self, code, text)
                else:
                    self._end(self._refusal("deferred", code, text, row.at))
        if self._reader.broken:
            self._end(self._outcome("deferred", 451, b"", f"{self._remote_mta} does not speak SMTP", "4.5.0"))
        self._is_early = self._reader.inside and (self._is_early or not n_asked)
        self._pump()

    def events(self) -> list[Event]:
        """Return what happened since the last call, oldest first."""
        events, self._events = self._events, []
        return events

    def output(self) -> list[bytes]:
        """Return what is to be written since the last call."""
        output, self._output = self._output, []
        return output

    def quit(self) -> None:
        """Say QUIT and end the session; the driver sees to it that the client is idle. No reply is awaited."""
        self._end(self._outcome("deferred", 451, b"", "the session was ended", "4.4.2"))
        self._output.append(b"QUIT\r\n")

    def lost(self, what: str) -> None:
        """The connection is gone; `what` is a phrase such as "lost connection"."""
        doing = TABLE[self._expected[0]].doing if self._expected else "idle"
        self._end(self._outcome("deferred", 451, b"", f"{what} with {self._remote_mta} while {doing}", "4.4.2"))

    def abort(self) -> None:
        """End at once: a letter past its final dot is deferred, all others are left over."""
        if self._open:
            self._open[0].is_touched = self._open[0].is_sent
        self._has_settled = True
        self.lost("we ended the session")

    # How letters go out.

    def _pump(self) -> None:
        """Write what may be written now."""
        expected = self._expected
        if not self._is_ready or self.is_over:
            return
        if self._offers.pipelining:
            if self._waiting and (not expected or expected[-1] >= DOT) and self._start():
                lines = self._open[-1].lines
                expected.extend([step for step, _ in lines])
                self._output.append("".join([line for _, line in lines]).encode())
                lines.clear()
        elif not expected and (self._open or self._start()):
            step, line = self._open[0].lines.popleft()
            expected.append(step)
            self._output.append(line.encode())

    def _start(self) -> bool:
        """Begin the next letter that the peer can take; False when there is none."""
        while self._waiting:
            letter = self._waiting.popleft()
            lines = self._compose(letter)
            if not isinstance(lines, deque):
                self._events.append(lines)
                continue
            if self._needs_rset:
                self._needs_rset = False
                lines.appendleft((Step.RSET, "RSET\r\n"))
            self._open.append(Transaction(letter, lines))
            return True
        return False

    def _compose(self, letter: Letter) -> deque[tuple[Step, str]] | Done[Any]:
        """Return the lines from MAIL to DATA, or why this peer cannot have the letter: we know without asking."""
        rows = [f"RCPT TO:<{path}>\r\n" for _, path in letter.recipients]
        text = "".join([letter.sender, *rows])
        is_utf8 = letter.utf8 or not text.isascii()
        # An address with a line end in it would be a command of its own; a surrogate cannot be sent at all.
        if text.count("\r") != len(rows) or text.count("\n") != len(rows) or (is_utf8 and SURROGATE.search(text)):
            outcome = self._outcome("bounced", 553, b"", "an address cannot be sent over SMTP", "5.1.3")
            return Done(letter, [(number, outcome) for number, _ in letter.recipients])
        lack = self._lack(letter, is_utf8)
        if lack is not None:
            return TryNext(letter, [(number, lack) for number, _ in letter.recipients], is_misfit=True)
        size = letter.octets if self._offers.size else -1
        mail = f"MAIL FROM:<{letter.sender}>{mail_params(size, body_8bit=letter.has_8bit, utf8=is_utf8)}\r\n"
        return deque([(MAIL, mail), *[(RCPT, row) for row in rows], (DATA, "DATA\r\n")])

    def _lack(self, letter: Letter, is_utf8: bool) -> Outcome | None:
        """Return what becomes of a letter that no host takes whose EHLO is like this one's; None if this one may."""
        offers, peer = self._offers, self._remote_mta
        if 0 < offers.max_octets < letter.octets:
            return self._outcome("bounced", 552, b"", f"{peer} takes at most {offers.max_octets} octets", "5.3.4")
        if letter.has_8bit and not offers.eight_bit:
            return self._outcome("bounced", 554, b"", f"{peer} does not take 8-bit mail", "5.6.3")
        if is_utf8 and not offers.utf8:
            return self._outcome("bounced", 553, b"", f"{peer} does not take internationalized mail", "5.6.7")
        return None

    # What replies mean, one function a step; TABLE below names it and the classes of reply that it takes.

    def _on_greeting(self, code: int, text: bytes) -> None:
        self._output.append(f"EHLO {self._hostname}\r\n".encode())
        self._expected.append(Step.EHLO)

    def _on_ehlo(self, code: int, text: bytes) -> None:
        # RFC 5321 s3.2: a server that does not know EHLO is greeted by HELO.
        if code >= 500:
            self._output.append(f"HELO {self._hostname}\r\n".encode())
            self._expected.append(Step.HELO)
            return
        self._offers = read_ehlo(text)
        self._on_helo(code, text)

    def _on_helo(self, code: int, text: bytes) -> None:
        self._is_ready = True
        self._events.append(Ready())

    def _on_mail(self, code: int, text: bytes) -> None:
        if code >= 400:
            self._open[0].refusal = refusal = self._refusal("bounced", code, text, "MAIL")
            # In a group the replies to RCPT and DATA are still to come.
            if self._open[0].lines:
                self._settle(refusal)

    def _on_rcpt(self, code: int, text: bytes) -> None:
        transaction = self._open[0]
        number = transaction.letter.recipients[len(transaction.accepted) + len(transaction.decided)][0]
        if code < 400:
            transaction.accepted.append(number)
            return
        outcome = self._refusal("bounced", code, text, "RCPT")
        # RFC 5321 s4.5.3.1.10: 552 behind accepted recipients says that there are too many, which passes; but a full
        # mailbox (5.2.2) is what most senders of 552 mean today.
        if code == 552 and transaction.accepted and outcome.enhanced in ("5.5.3", "5.0.0"):
            outcome = self._refusal("deferred", code, text, "RCPT")
        transaction.decided.append((number, outcome))
        # One by one, with nobody accepted and only DATA left to ask: there is nothing to send.
        if len(transaction.lines) == 1 and not transaction.accepted:
            self._needs_rset = True
            self._settle(outcome)

    def _on_data(self, code: int, text: bytes) -> None:
        head = self._open[0]
        if code >= 400:
            self._needs_rset = head.refusal is None
            self._settle(self._refusal("bounced", code, text, "DATA"))
        elif head.accepted and head.refusal is None:
            self._stuffer = DotStuffer()
            self._n_sent = 0
            self._expected.append(BODY)
            self._send_piece(head.letter)
        elif head.accepted:
            # It refused the sender and takes a mail to these recipients all the same: we had better not send any.
            self._settle(self._refusal("deferred", code, text, "MAIL"))
            self._end(self._outcome("deferred", code, text, "the peer wants mail from a sender it refused", "4.5.0"))
        else:
            # RFC 2920 s3.1: DATA was accepted although nobody was; the empty mail must still be ended.
            self._output.append(b".\r\n")
            self._expected.append(Step.LONE_DOT)
            self._settle(self._refusal("deferred", code, text, "RCPT"))

    def _send_piece(self, letter: Letter) -> None:
        try:
            content = letter.read(self._n_sent)
        except Exception as error:
            # Whatever keeps one message from being read is its own trouble. After 354 the peer takes what we say for
            # mail: to hang up is the only way not to send any.
            outcome = Outcome("deferred", 451, "4.3.0", f"the message cannot be read: {error!r}", "", "")
            self._settle(outcome)
            self._end(outcome)
            return
        self._output.append(self._stuffer.feed(content))
        self._n_sent += 1
        if self._n_sent == letter.n_pieces:
            self._output.append(self._stuffer.end())
            self._expected[-1] = DOT
            self._open[0].is_sent = True

    def _on_body(self, code: int, text: bytes) -> None:
        # The peer has seen enough. What it takes for mail now is the rest of the body: there is no way back.
        refusal = self._refusal("bounced", code, text, "the message")
        self._settle(refusal)
        self._end(refusal)

    def _on_dot(self, code: int, text: bytes) -> None:
        if code < 400:
            self._settle(self._outcome("delivered", code, text, "accepted"))
        else:
            self._settle(self._refusal("bounced", code, text, "the end of data"))

    def _on_nothing(self, code: int, text: bytes) -> None:
        """Take the reply to RSET, or to an empty mail that nobody was to get: it changes nothing."""

    # How letters and the session end.

    def _settle(self, rest: Outcome) -> None:
        """The oldest letter is worked off; `rest` is for recipients of which nothing was decided before."""
        transaction = self._open.popleft()
        self._has_settled = True
        self._events.append(Done(transaction.letter, transaction.outcomes(rest)))

    def _end(self, outcome: Outcome, is_hosts_fault: bool = False) -> None:
        """The session is over because of `outcome`, which is also that of the letter under way."""
        if self.is_over:
            return
        self.is_over = True
        head = self._open[0] if self._open else None
        if head is not None and head.is_sent:
            self._settle(possible_repeat(outcome))
        elif head is not None and not self._has_settled:
            # On a fresh connection it is not left over: it would be tried again at once, and for ever.
            self._open.popleft()
            self._events.append(TryNext(head.letter, head.outcomes(outcome), is_misfit=False))
        elif head is not None and head.is_touched:
            # A peer that ends a kept connection between two letters has said nothing about the second.
            self._settle(outcome)
        left = [transaction.letter for transaction in self._open] + list(self._waiting)
        self._open.clear()
        self._waiting.clear()
        self._expected.clear()
        self._output.clear()
        self._events.append(Over(outcome, left, is_hosts_fault or not self._is_ready))

    def _close(self, outcome: Outcome) -> None:
        """The peer said 421: about itself, not about the letter under way, unless it has seen all of that."""
        if self._open and self._expected[0] is DOT:
            self._settle(outcome)
        is_news = bool(self._expected) and not self._has_settled
        if self._open:
            self._open[0].is_touched = False
            # Left over, it is tried again once the path has rested.
            self._has_settled = True
        self._end(outcome, is_news)

    def _refusal(self, status: Status, code: int, text: bytes, at: str) -> Outcome:
        return refusal_of(self._remote_mta, status, code, text, at)

    def _outcome(self, status: Status, code: int, text: bytes, reason: str, enhanced: str = "") -> Outcome:
        return outcome_of(self._remote_mta, status, code, text, reason, enhanced)


class Row(msgspec.Struct, frozen=True):
    """One step: its name, what we do meanwhile, and the classes of reply it knows; any other ends the session."""

    at: str
    doing: str
    classes: tuple[int, ...]
    answer: Callable[[Client, int, bytes], None]


# A host's 5xx greeting says nothing about the mail: like every end of a session it defers.
TABLE: dict[Step, Row] = {
    Step.GREETING: Row("the greeting", "waiting for the greeting", (2,), Client._on_greeting),
    Step.EHLO: Row("EHLO", "sending EHLO", (2, 5), Client._on_ehlo),
    Step.HELO: Row("HELO", "sending HELO", (2,), Client._on_helo),
    Step.RSET: Row("RSET", "sending RSET", (2,), Client._on_nothing),
    MAIL: Row("MAIL", "sending MAIL", (2, 4, 5), Client._on_mail),
    RCPT: Row("RCPT", "sending RCPT", (2, 4, 5), Client._on_rcpt),
    DATA: Row("DATA", "sending DATA", (3, 4, 5), Client._on_data),
    BODY: Row("the message", "sending the message", (4, 5), Client._on_body),
    DOT: Row("the end of data", "sending the end of data", (2, 4, 5), Client._on_dot),
    Step.LONE_DOT: Row("an empty mail", "ending an empty mail", (2, 3, 4, 5), Client._on_nothing),
}
