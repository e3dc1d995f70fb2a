"""What a peer's reply means for a recipient, and what of its words is kept. RFC 5321 s4.2.1, RFC 3463, RFC 2034.

Rule: a peer's words enter an Outcome here and nowhere else: as text that shows itself and does nothing more, of several
lines only if the reply had them, cut to what a row holds. Used by `client`; pure.
"""

import msgspec

from mta.message import Outcome, Status, cut
from mta.reply import ENHANCED, visible

__all__ = ["POSSIBLE_REPEAT", "outcome_of", "possible_repeat", "refusal_of"]

POSSIBLE_REPEAT = "possibly delivered, may arrive twice: "
"""What the reason begins with where the peer has the whole message and nobody knows whether it took it."""


def outcome_of(remote_mta: str, status: Status, code: int, text: bytes, reason: str, enhanced: str = "") -> Outcome:
    """Return an outcome in the peer's words, or in ours alone where `text` is empty; `enhanced` "" is the peer's."""
    diagnostic = text.decode("utf-8", "replace")
    if not diagnostic.isprintable():
        diagnostic = visible(diagnostic, "\ufffd", keep="\t\n")
    if not enhanced:
        found = ENHANCED.match(diagnostic)
        # RFC 2034 s4: the class must be the reply's own.
        enhanced = found[0] if found and int(found[1]) == code // 100 else f"{code // 100}.0.0"
    return Outcome(status, code, enhanced, reason, remote_mta, cut(diagnostic))


def refusal_of(remote_mta: str, status: Status, code: int, text: bytes, at: str) -> Outcome:
    """Return what a reply that is no success means; 4xx always defers, whatever `status` says."""
    if code < 400:
        return outcome_of(remote_mta, "deferred", code, text, f"unexpected reply at {at}", "4.5.0")
    return outcome_of(remote_mta, status if code >= 500 else "deferred", code, text, f"refused at {at}")


def possible_repeat(outcome: Outcome) -> Outcome:
    """Return the outcome of a message that the peer had been sent to its end when the session broke."""
    # In front, where nothing cuts it off.
    return msgspec.structs.replace(outcome, reason=POSSIBLE_REPEAT + outcome.reason)
