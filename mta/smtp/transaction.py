"""One letter under way on the client's side: what was asked and what is known. RFC 5321 s3.3.

Plain records; `client` alone uses them.
"""

import enum
from collections import deque

from mta.message import Outcome
from mta.smtp.letter import Letter

__all__ = ["Step", "Transaction"]


class Step(enum.IntEnum):
    """What a reply is awaited for."""

    GREETING = enum.auto()
    EHLO = enum.auto()
    HELO = enum.auto()
    RSET = enum.auto()
    MAIL = enum.auto()
    RCPT = enum.auto()
    DATA = enum.auto()
    BODY = enum.auto()
    DOT = enum.auto()
    LONE_DOT = enum.auto()


class Transaction:
    """One letter under way: the commands not yet written, and what is known of its recipients."""

    def __init__(self, letter: Letter, lines: deque[tuple[Step, str]]) -> None:
        self.letter = letter
        self.lines = lines
        self.accepted: list[int] = []
        self.decided: list[tuple[int, Outcome]] = []
        self.refusal: Outcome | None = None
        self.is_touched = False
        self.is_sent = False

    def outcomes(self, rest: Outcome) -> list[tuple[int, Outcome]]:
        """Return one outcome for each recipient; `rest` is for those that nothing was decided about."""
        recipients = self.letter.recipients
        if self.refusal is not None:
            return [(number, self.refusal) for number, _ in recipients]
        if not self.decided:
            return [(number, rest) for number, _ in recipients]
        known = dict(self.decided)
        return [(number, known.get(number, rest)) for number, _ in recipients]
