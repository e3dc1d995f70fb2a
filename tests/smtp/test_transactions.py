"""Nothing survives a reset, in whatever order commands come: random orders against a slow and obvious model."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.config import Limits
from tests.smtp.driver import Driver, at_random, codes, lines

COMMANDS = {
    "EHLO": lines("EHLO a"),
    "HELO": lines("HELO a"),
    "bad EHLO": lines("EHLO"),
    "MAIL": lines("MAIL FROM:<a@example.org>"),
    "MAIL utf8": lines("MAIL FROM:<> SMTPUTF8 BODY=8BITMIME"),
    "bad MAIL": lines("MAIL FROM:<a@@b>"),
    "MAIL refused": lines("MAIL FROM:<spam@refused.test>"),
    "RCPT": lines("RCPT TO:<x@example.net>"),
    "RCPT utf8": lines("RCPT TO:<ü@example.net>"),
    "RCPT refused": lines("RCPT TO:<x@refused.test>"),
    "RCPT later": lines("RCPT TO:<x@later.test>"),
    "DATA": lines("DATA"),
    "RSET": lines("RSET"),
    "bad RSET": lines("RSET x"),
    "NOOP": lines("NOOP"),
    "unknown": lines("FROB"),
}
BODIES = {b"hello\r\n.\r\n": 250, b"poison\r\n.\r\n": 554, b"bare\n\r\n.\r\n": 550, b"x" * 1001 + b"\r\n.\r\n": 552}


class Model:
    """A transaction in a handful of variables, every rule spelled out where it applies."""

    def __init__(self) -> None:
        self.helo = False
        self.open = False
        self.utf8 = False
        self.recipients: list[str] = []
        self.in_data = False
        self.sender = ""
        self.mails: list[tuple[str, tuple[str, ...]]] = []

    def say(self, name: str) -> int:
        if name in ("EHLO", "HELO"):
            self.helo, self.open, self.utf8, self.recipients = True, False, False, []
            return 250
        if name in ("bad EHLO", "bad RSET"):
            return 501
        if name == "NOOP":
            return 250
        if name == "unknown":
            return 500
        if name == "RSET":
            self.open, self.utf8, self.recipients = False, False, []
            return 250
        if not self.helo:
            return 503
        if "MAIL" in name:
            return self._mail(name)
        if not self.open:
            return 503
        return self._rcpt(name) if "RCPT" in name else self._data()

    def _mail(self, name: str) -> int:
        if self.open:
            return 503
        if name == "bad MAIL":
            return 501
        if name == "MAIL refused":
            return 554
        self.open, self.utf8 = True, name == "MAIL utf8"
        self.sender = "" if self.utf8 else "a@example.org"
        return 250

    def _rcpt(self, name: str) -> int:
        if name == "RCPT utf8" and not self.utf8:
            return 553
        if name in ("RCPT refused", "RCPT later"):
            return 550 if name == "RCPT refused" else 451
        self.recipients.append("ü@example.net" if name == "RCPT utf8" else "x@example.net")
        return 250

    def _data(self) -> int:
        if not self.recipients:
            return 554
        self.in_data = True
        return 354

    def end(self, code: int) -> None:
        if code == 250:
            self.mails.append((self.sender, tuple(self.recipients)))
        self.open, self.utf8, self.recipients, self.in_data = False, False, [], False


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(COMMANDS)), st.sampled_from(sorted(BODIES))), max_size=30))
def test_session_random_commands_agree_with_the_model(steps: list[tuple[str, bytes]]) -> None:
    limits = Limits(soft_errors=1000, hard_errors=1000)
    model, driver, everything, wanted = Model(), Driver(limits), b"", []
    for name, body in steps:
        code = model.say(name)
        assert codes(driver.feed(COMMANDS[name])) == [code]
        everything += COMMANDS[name]
        wanted.append(code)
        if model.in_data:
            model.end(BODIES[body])
            assert codes(driver.feed(body)) == [BODIES[body]]
            everything += body
            wanted.append(BODIES[body])
        session = driver.session
        assert (session.sender is not None) == model.open
        assert [recipient.text for recipient in session.recipients] == model.recipients
        assert session.utf8 == session.body_8bit == model.utf8
    assert [mail[:2] for mail in driver.mails] == model.mails
    # The same all over again, pipelined without regard for anything.
    again = Driver(limits)
    assert codes(again.feed(*at_random(everything))) == wanted
    assert again.mails == driver.mails


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([*COMMANDS.values(), *BODIES])), max_size=20))
def test_session_any_octets_any_cut_gives_same_replies(pieces: list[bytes]) -> None:
    limits = Limits(soft_errors=3, hard_errors=30)
    first, second = Driver(limits), Driver(limits)
    everything = b"".join(pieces)
    assert first.feed(everything) == second.feed(*at_random(everything, seed=len(everything)))
    assert first.mails == second.mails
    assert first.n_delays == second.n_delays
