"""The message of one transaction while it comes in: un-stuffed, counted, and held against the limits.

Rule: whatever is wrong with a message, it is read to its true end, and the verdict is the same however it was cut into
network reads. Used by the session alone. RFC 5321 s4.1.1.4, s4.5.2.
"""

from mta._fast import DotReader
from mta.config import Limits
from mta.reply import Reply
from mta.smtp.replies import REPLY_550_BARE_LINE_END, REPLY_550_LONG_LINE, REPLY_552_TOO_LARGE

__all__ = ["Body"]


class Body:
    """Reads from the octet behind DATA's line to the dot line."""

    def __init__(self, limits: Limits, max_octets: int) -> None:
        self.reader = DotReader()
        """Holds the counts, and says when the end was found."""
        self._limits = limits
        self._max_octets = max_octets

    def find_fault(self) -> Reply | None:
        """Return the refusal that what was read so far deserves; None when there is nothing against it."""
        reader = self.reader
        if reader.octets > self._max_octets:
            return REPLY_552_TOO_LARGE
        # What others might take for the end of the message must not be passed on: smuggling.
        if reader.bare_line_end and self._limits.bare_newline == "reject":
            return REPLY_550_BARE_LINE_END
        return REPLY_550_LONG_LINE if reader.longest_line > self._limits.line_octets else None
