"""Read an SMTP server's replies. RFC 5321 s4.2."""

class ReplyReader:
    """Collect reply lines into whole replies; fed with network reads that may be cut anywhere.

    A line ends at LF, a CR before it is dropped: a client must understand sloppy servers. A line that does not begin
    with three digits (first 2..5), then space, hyphen or line end, breaks the protocol, and so does a reply whose lines
    carry different codes. So do more than 100 lines, or more than 65,536 octets in one reply.
    """

    broken: bool
    """The peer broke the protocol; feed() returns nothing more."""
    inside: bool
    """A reply has begun and is not complete."""

    def feed(self, data: bytes, /) -> list[tuple[int, bytes]]:
        """Return the replies that became complete, oldest first, as (code, text).

        The text is that of the lines, without codes and separators, joined by LF; its octets are as the peer sent them.
        """
