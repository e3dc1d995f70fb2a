"""What the nameserver of the small internet serves: one zone with everything in it."""

from bench.internet.sites import HOME, SITES, ZONE

__all__ = ["TTL_S", "records"]

TTL_S = 3
"""Short, so that what is known of a domain is asked anew in the middle of things."""


def records() -> str:
    """Return what is in the zone `test.`, relative to it, one record a line."""
    rows: list[str] = []
    for site in (*SITES, HOME):
        rows += site.hosts
        if site.tld == ZONE:
            rows += [f"{domain}. {line}" for domain in site.domains for line in site.mx]
    return "\n".join(rows)
