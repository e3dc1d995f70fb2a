"""The one mailbox that every mail server has. RFC 5321 s4.5.1.

Rule: <Postmaster> without a domain, and postmaster@ each local domain, whatever the case, is taken from everybody, and
goes where the operator reads it.
"""

from mta.config import Local
from mta.errors import ConfigError
from mta.message import Address
from mta.policy.domains import Domains
from mta.reply import REPLY_550_NO_SUCH_USER, Reply
from mta.smtp import parse_mailbox

__all__ = ["PostmasterCheck", "postmaster_of"]


def postmaster_of(local: Local) -> Address | None:
    """Return where mail for the postmaster goes; None when there is neither a setting nor a local domain.

    Raises ConfigError when the setting is no mail address.
    """
    first = Domains(local.domains).first
    text = local.postmaster or (f"postmaster@{first}" if first else "")
    if not text:
        return None
    address = parse_mailbox(text)
    if isinstance(address, str):
        raise ConfigError([f'local.postmaster: expected a mail address, got "{text}"'])
    return address


class PostmasterCheck:
    """Rewrites every name of the postmaster to the one mailbox."""

    def __init__(self, local: Local) -> None:
        self._domains = Domains(local.domains)
        self._address = postmaster_of(local)

    def rcpt(self, recipient: Address, trusted: bool) -> Reply | Address:
        """Return the postmaster's mailbox for any of its names, 550 where there is none, else the recipient."""
        if recipient.domain and (recipient.local.lower() != "postmaster" or not self._domains.has(recipient)):
            return recipient
        return self._address or REPLY_550_NO_SUCH_USER
