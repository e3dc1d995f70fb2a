"""The network that a client is counted with: its address without the bits in which its neighbours differ.

An IPv4 address that comes as ::ffff:192.0.2.1, as sockets that listen on [::] for both show it, is an IPv4 address.
Whoever has a /64 has more addresses than a table can hold, so for IPv6 it is the network that counts.
"""

import socket

__all__ = ["NOBODY", "Networks"]

NOBODY = b""
"""The network of a client whom no limit on networks concerns."""
MAPPED = b"\0" * 10 + b"\xff\xff"


class Networks:
    """Gives the network of each client: 4 octets for IPv4, 16 for IPv6, those behind the prefix zero."""

    def __init__(self, prefix_ipv4: int, prefix_ipv6: int) -> None:
        self._shift_ipv4 = 32 - prefix_ipv4
        self._shift_ipv6 = 128 - prefix_ipv6

    def of(self, client: str) -> bytes:
        """Return the network of an address as text; NOBODY for what is no IP address."""
        try:
            if ":" not in client:
                return self._ipv4(socket.inet_aton(client))
            # The scope of a link-local address names an interface of ours, not a part of the client's network.
            octets = socket.inet_pton(socket.AF_INET6, client.partition("%")[0])
        except OSError:
            return NOBODY
        if octets.startswith(MAPPED):
            return self._ipv4(octets[12:])
        return _cut(octets, self._shift_ipv6)

    def _ipv4(self, octets: bytes) -> bytes:
        return _cut(octets, self._shift_ipv4)


def _cut(octets: bytes, shift: int) -> bytes:
    if not shift:
        return octets
    return (int.from_bytes(octets) >> shift << shift).to_bytes(len(octets))
