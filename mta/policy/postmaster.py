"""The one mailbox that every mail server has. RFC 5321 s4.5.1.

Rule: <Postmaster> without a domain, and postmaster@ each local domain, whatever the case, is taken from everybody, and
goes where the operator reads it.
"""

from mta.address import parse_mailbox
from mta.config import Local
from mta.errors import ConfigError
from mta.message import Address
from mta.reply import REPLY_550_NO_SUCH_USER, Reply

__all__ = ["PostmasterCheck", "postmaster_of"]


def postmaster_of(local: Local) -> Address | None:
    """Return where mail for the postmaster goes; None when there is neither a setting nor a local domain.

    Raises ConfigError when the setting is no mail address.
    """
    text = local.postmaster or (f"postmaster@{local.domains[0]}" if local.domains else "")
    if not text:
        return None
    address = parse_mailbox(text)
    if isinstance(address, str):
        raise ConfigError([f'local.postmaster: expected a mail address, got "{text}"'])
    return address


class PostmasterCheck:
    """Rewrites every name of the postmaster to the one mailbox."""

    def __init__(self, local: Local) -> None:
        self._domains = frozenset(local.domains)
        self._address = postmaster_of(local)

    def rcpt(self, recipient: Address, trusted: bool) -> Reply | Address:
        """Return the postmaster's mailbox for any of its names, 550 where there is none, else the recipient."""
        if recipient.domain and (recipient.local.lower() != "postmaster" or recipient.domain not in self._domains):
            return recipient
        return self._address or REPLY_550_NO_SUCH_USER
