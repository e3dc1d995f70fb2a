"""What the server side answers by itself, always in the same words. RFC 5321 s4.2.3, RFC 3463.

Rule: nothing that a client sent is in here. Replies that several rooms give are in `mta.reply`.
"""

from mta.reply import Reply
from mta.smtp.address import BAD_KEYWORDS

__all__ = [
    "REPLY_214_HELP",
    "REPLY_221_BYE",
    "REPLY_252_VRFY",
    "REPLY_354_GO_AHEAD",
    "REPLY_421_ERRORS",
    "REPLY_421_TIMEOUT",
    "REPLY_452_RECIPIENTS",
    "REPLY_500_LINE",
    "REPLY_500_TOO_LONG",
    "REPLY_500_UNKNOWN",
    "REPLY_501_HELLO",
    "REPLY_501_NO_ARGUMENT",
    "REPLY_501_VRFY",
    "REPLY_502_NOT_OFFERED",
    "REPLY_503_HELLO_FIRST",
    "REPLY_503_MAIL_FIRST",
    "REPLY_503_MAIL_OPEN",
    "REPLY_550_BARE_LINE_END",
    "REPLY_550_LONG_LINE",
    "REPLY_552_TOO_LARGE",
    "REPLY_553_NOT_ASCII",
    "REPLY_554_NO_RECIPIENTS",
    "bad_path",
]

REPLY_214_HELP = Reply(214, "2.0.0", "EHLO HELO MAIL RCPT DATA RSET NOOP VRFY QUIT, see RFC 5321")
REPLY_221_BYE = Reply(221, "2.0.0", "Bye")
REPLY_252_VRFY = Reply(252, "2.5.2", "Send mail and we will see")
REPLY_354_GO_AHEAD = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
REPLY_421_ERRORS = Reply(421, "4.7.0", "Too many errors, closing the connection")
REPLY_421_TIMEOUT = Reply(421, "4.4.2", "Nothing heard for too long, closing the connection")
REPLY_452_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")
REPLY_500_UNKNOWN = Reply(500, "5.5.1", "Unknown command")
REPLY_500_LINE = Reply(500, "5.5.2", "A command must end in CRLF and hold no other CR, LF or NUL")
REPLY_500_TOO_LONG = Reply(500, "5.5.2", "Command line too long")
REPLY_501_HELLO = Reply(501, "5.5.4", "Say your host name or address literal")
REPLY_501_NO_ARGUMENT = Reply(501, "5.5.4", "This command takes no argument")
REPLY_501_VRFY = Reply(501, "5.5.4", "Say whom to verify")
REPLY_502_NOT_OFFERED = Reply(502, "5.5.1", "Command not offered here")
REPLY_503_HELLO_FIRST = Reply(503, "5.5.1", "Say EHLO or HELO first")
REPLY_503_MAIL_FIRST = Reply(503, "5.5.1", "Say MAIL first")
REPLY_503_MAIL_OPEN = Reply(503, "5.5.1", "A transaction is open already")
REPLY_550_BARE_LINE_END = Reply(550, "5.6.0", "The message holds a CR or LF that is not part of a CRLF")
REPLY_550_LONG_LINE = Reply(550, "5.6.0", "The message holds a line that is too long")
REPLY_552_TOO_LARGE = Reply(552, "5.3.4", "The message is larger than we accept")
REPLY_553_NOT_ASCII = Reply(553, "5.6.7", "An address beyond ASCII needs SMTPUTF8")
REPLY_554_NO_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")


def bad_path(reason: str, enhanced: str) -> Reply:
    """Return the refusal of what stands behind MAIL or RCPT; `reason` is what `address` said, `enhanced` its code."""
    return Reply(501, "5.5.4" if reason in BAD_KEYWORDS else enhanced, reason)
