"""Who may send what to whom: a verdict for each stage of a transaction. It proposes, `accept` applies."""

from mta.policy.chain import Policy
from mta.policy.mailbox import REPLY_451_MAILBOXES, Mailboxes

__all__ = ["REPLY_451_MAILBOXES", "Mailboxes", "Policy"]
