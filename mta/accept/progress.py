"""Whether a client comes further, for the time of stress, when to say something is not enough.

Rule: without it, one octet in ten seconds, or a NOOP, would hold a connection that others need for as long as its owner
likes. Further is what a session never was before: EHLO, MAIL, each recipient, DATA, a message taken; to begin a
transaction anew is not. Within a message it is octets, as many a second as Postfix asks for (smtpd_min_data_rate).
"""

from mta.smtp import Session, State

__all__ = ["Progress"]

LEAST_OCTETS_S = 500
# Bound once: see ARCHITECTURE, Choices.
DATA = State.DATA


class Progress:
    """Of one connection."""

    def __init__(self, session: Session, now: float) -> None:
        self._session = session
        self.begin(now)

    def begin(self, now: float) -> None:
        """Look from now on; what was before counts as progress."""
        self.at = now
        """When it was last made."""
        self._furthest = self._place()

    def note(self, n_octets: int, now: float) -> None:
        """So many octets have come and were worked on."""
        place = self._place()
        if place > self._furthest:
            self._furthest, self.at = place, now
        elif self._session.state is DATA:
            self.at = min(now, self.at + n_octets / LEAST_OCTETS_S)

    def _place(self) -> tuple[int, int, int]:
        session = self._session
        return session.n_messages, session.state, len(session.recipients)
