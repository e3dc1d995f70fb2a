"""The chain of checks, in the order in which they are asked.

Rule: the first Reply refuses; an Address, maybe another one, is what the next check sees and in the end what counts.
Called by `accept`, for each connection and each RCPT. RFC 5321 s3.3.
"""

from mta.config import Local, Relay
from mta.message import Address
from mta.policy.mailbox import MailboxCheck, Mailboxes
from mta.policy.postmaster import PostmasterCheck
from mta.policy.relay import RelayCheck
from mta.reply import Reply

__all__ = ["Policy"]


class Policy:
    """All checks of one configuration."""

    def __init__(self, relay: Relay, local: Local) -> None:
        """Make the checks. Raises ConfigError for a postmaster that is no mail address."""
        self._relay = RelayCheck(relay, local.domains)
        self._rcpt_checks = (self._relay.rcpt, PostmasterCheck(local).rcpt, MailboxCheck(Mailboxes(local)).rcpt)

    def trusts(self, client_ip: str) -> bool:
        """Return whether a client (its address as text, IPv4-mapped IPv6 counts as IPv4) may send anywhere."""
        return self._relay.trusts(client_ip)

    def rcpt(self, recipient: Address, trusted: bool) -> Reply | Address:
        """Return the reply that refuses a recipient, or the address to put in the envelope for it."""
        for check in self._rcpt_checks:
            verdict = check(recipient, trusted)
            if isinstance(verdict, Reply):
                return verdict
            recipient = verdict
        return recipient
