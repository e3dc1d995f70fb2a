"""Relaying: trusted clients may send anywhere, everybody else to local domains only.

Rule: no spelling of a recipient turns a local domain into a way out. Source routes are gone when this is asked, the
parser drops them (RFC 5321 s4.1.2).
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from mta.config import Relay
from mta.message import Address
from mta.reply import REPLY_554_RELAY_DENIED, Reply

__all__ = ["RelayCheck"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# victim%other.test@, other.test!victim@, "victim@other.test"@: some next hop or user database may still understand
# these routes inside a local part, and send on what was accepted as local. RFC 5321 s3.6.1, appendix F.
ROUTING = frozenset("%!@")
KNOWN_CLIENTS = 4096


class RelayCheck:
    """Says who may send anywhere, and refuses the rest."""

    def __init__(self, relay: Relay, local_domains: Iterable[str]) -> None:
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(text, strict=False) for text in relay.networks)
        self._local_domains = frozenset(local_domains)
        # The networks do not change, and clients come again.
        self._known = lru_cache(maxsize=KNOWN_CLIENTS)(self._is_in)

    def trusts(self, client_ip: str) -> bool:
        """Return whether the client is in `relay.networks`; what is no IP address is not."""
        return self._known(client_ip)

    def _is_in(self, client_ip: str) -> bool:
        try:
            address = ipaddress.ip_address(client_ip)
        except ValueError:
            return False
        # A socket that listens on [::] for both shows IPv4 clients as ::ffff:192.0.2.1.
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    def rcpt(self, recipient: Address, trusted: bool) -> Reply | Address:
        """Refuse what would leave, unless the client is trusted. The bare <Postmaster> is everybody's."""
        if trusted or not recipient.domain:
            return recipient
        if recipient.domain not in self._local_domains or not ROUTING.isdisjoint(recipient.local):
            return REPLY_554_RELAY_DENIED
        return recipient
