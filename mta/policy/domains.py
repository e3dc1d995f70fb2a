"""Which domains end here."""

from collections.abc import Iterable

from mta.errors import ConfigError
from mta.message import Address
from mta.smtp import parse_mailbox

__all__ = ["Domains"]


class Domains:
    """The local domains, in the form in which addresses carry theirs: lowercase, literals canonical."""

    first: str
    """The first one listed, "" for none."""

    def __init__(self, listed: Iterable[str]) -> None:
        """Take `local.domains`. Raises ConfigError for what cannot be the domain of an address."""
        domains = [_canonical(domain) for domain in listed]
        self.first = domains[0] if domains else ""
        self._domains = frozenset(domains)

    def has(self, address: Address) -> bool:
        """Return whether the address is in a local domain; the bare <Postmaster> is in none."""
        return address.domain in self._domains


def _canonical(domain: str) -> str:
    address = parse_mailbox(f"postmaster@{domain}")
    if isinstance(address, str):
        raise ConfigError([f'local.domains: expected a domain, got "{domain}"'])
    return address.domain
