"""What a client hears whom a limit for the whole machine refuses. RFC 3463 s3.8, RFC 5321 s4.2.1.

All are temporary: a client that is one of many of its network may have done nothing wrong.
"""

from mta.reply import Reply
from mta.state.words import Refusal

__all__ = ["REFUSALS", "REPLY_421_UNKNOWN", "REPLY_451_UNKNOWN"]

REPLY_421_TOO_MANY = Reply(421, "4.3.2", "Too many connections, try again later")

REFUSALS: dict[int, Reply] = {
    Refusal.TOTAL: REPLY_421_TOO_MANY,
    Refusal.LISTENER: REPLY_421_TOO_MANY,
    Refusal.STRESS: Reply(421, "4.3.2", "Very busy, only one connection for each network, try again later"),
    Refusal.CONNECTIONS: Reply(421, "4.7.0", "Too many connections from your network, try again later"),
    Refusal.CONNECTION_RATE: Reply(421, "4.7.0", "Too many new connections from your network, try again later"),
    # 450 counts as the client's error, so that nobody asks without end; 452 does not, for it may come in the middle of
    # a message that has recipients already, and RFC 5321 s4.5.3.1.10 has the client send the others later.
    Refusal.MESSAGES: Reply(450, "4.7.1", "Too much mail from your network, try again later"),
    Refusal.RECIPIENTS: Reply(452, "4.7.1", "Too many recipients from your network, try again later"),
    Refusal.ERRORS: Reply(421, "4.7.0", "Too many errors from your network, try again later"),
}
REPLY_421_UNKNOWN = Reply(421, "4.3.2", "Connections cannot be counted now, try again later")
REPLY_451_UNKNOWN = Reply(451, "4.3.0", "Limits cannot be checked now, try again later")
