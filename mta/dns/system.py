"""The name servers of this machine."""

import dns.exception
import dns.resolver

from mta.dns.exchange import Server

__all__ = ["system_nameservers"]

PORT = 53


def system_nameservers() -> tuple[Server, ...]:
    """Return those that /etc/resolv.conf names, in its order; without any, the one on this machine, as libc does."""
    try:
        found = dns.resolver.Resolver(configure=True).nameservers
    except (dns.exception.DNSException, OSError, ValueError):
        found = []
    servers = tuple((str(server), PORT) for server in found)
    return servers or (("127.0.0.1", PORT),)
