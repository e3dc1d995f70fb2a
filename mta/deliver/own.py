"""Which addresses are this server itself: mail that is sent there would come back in.

Rule: an address and port that we listen on is never dialled; a listener on all addresses listens on every one that this
machine has at the moment. RFC 5321 s5.1.
"""

import ipaddress
import socket
from collections.abc import Iterable

__all__ = ["Own", "plain_address"]

NONLOCAL_BIND = "/proc/sys/net/ipv{version}/ip_nonlocal_bind"


class Own:
    """The addresses of all listeners."""

    def __init__(self, bound: Iterable[tuple[str, int]]) -> None:
        """`bound` are the listeners' addresses and real ports, as `getsockname` gives them."""
        self._bound: set[tuple[str, int]] = set()
        self._wild: set[tuple[int, int]] = set()
        for address, port in bound:
            parsed = ipaddress.ip_address(address)
            if parsed.is_unspecified:
                self._wild.add((parsed.version, port))
            else:
                self._bound.add((plain_address(address), port))

    def has(self, address: str, port: int) -> bool:
        """Say whether one would reach one of our listeners there."""
        plain = plain_address(address)
        if (plain, port) in self._bound:
            return True
        return (6 if ":" in plain else 4, port) in self._wild and _is_here(plain)


def plain_address(address: str) -> str:
    """Return an address in its one form: IPv4 inside IPv6 is IPv4; 0.0.0.0 and :: are where the kernel sends them."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if parsed.is_unspecified:
        return "127.0.0.1" if parsed.version == 4 else "::1"
    return str(parsed)


def _is_here(address: str) -> bool:
    """Say whether an address is one of this machine's."""
    parsed = ipaddress.ip_address(address)
    if parsed.is_loopback:
        return True
    if _binds_anything(parsed.version):
        # Then a bind proves nothing. A way to an address of this machine starts at that address.
        with socket.socket(_family(parsed.version), socket.SOCK_DGRAM) as sock:
            try:
                sock.connect((address, 9))
            except OSError:
                return False
            return str(sock.getsockname()[0]) == address
    with socket.socket(_family(parsed.version), socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
        return True


def _family(version: int) -> socket.AddressFamily:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _binds_anything(version: int) -> bool:
    try:
        with open(NONLOCAL_BIND.format(version=version), encoding="ascii") as switch:
            return switch.read().strip() != "0"
    except OSError:
        return False
