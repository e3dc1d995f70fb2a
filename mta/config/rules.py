"""Which values of each setting are possible: one row a setting, in the order of `model`.

Rule: a row judges one value of the right type, alone; for a list it judges each item. What needs two settings, or the
file they stand in, is in `load`. A setting without a row is a bug, and a test says so.

Impossible is refused, unwise is not: special-purpose servers and tests go below what RFCs recommend.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import NamedTuple

from mta.address import canonical_domain, parse_mailbox
from mta.message import Address

__all__ = ["RULES", "Rule", "split_bind"]

MIB = 1024 * 1024
# Longer than any of these makes sense, and short enough for every clock, timer and count it ends up in.
MOST_S = 1e9
MOST_COUNT = 1_000_000_000
MOST_OCTETS = 2**47
# A child gives a sign of life once a second: less patience than two of them kills healthy ones.
HANG_LEAST_S = 2.0
# A message's row names its extents, 1 MiB each, and a row has to fit a page of the queue's file.
MOST_MESSAGE_OCTETS = 128 * MIB
# What is told of a message to the queue process, its recipients among it, has to fit one frame.
MOST_RECIPIENTS = 10_000
MAILDIR_FIELDS = ("{domain}", "{local}")
BRACE = re.compile("[{}]")

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST_PORT = re.compile(r"(?:\[(?P<bracketed>[^\[\]]+)\]|(?P<plain>[^\[\]:]+)):(?P<port>[0-9]{1,5})")


class Rule(NamedTuple):
    """`expected` finishes the sentence "expected ..."; `fits` says whether a value will do."""

    expected: str
    fits: Callable[..., bool]


def _count(least: int = 1, most: int = MOST_COUNT) -> Rule:
    words = f"at least {least}" if most == MOST_COUNT else f"from {least} to {most}"
    return Rule(f"an integer, {words}", lambda value: least <= value <= most)


def _octets(least: int = 1, most: int = 0) -> Rule:
    if most:
        return Rule(f"octets, from {least} to {most // MIB} MiB ({most})", lambda value: least <= value <= most)
    words = f"at least {least // MIB} MiB ({least})" if least >= MIB else f"at least {least}"
    return Rule(f"octets, {words} and below {MOST_OCTETS}", lambda value: least <= value < MOST_OCTETS)


def _number(words: str, least: float, most: float = MOST_S) -> Rule:
    return Rule(words, lambda value: least <= value <= most)


def _is_address(text: str, version: int | None = None) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    # Any text may stand behind the % of a link-local address, for Python.
    if not text.isprintable() or " " in text:
        return False
    return version in (None, address.version)


def _is_mail_domain(text: str) -> bool:
    # All digits and dots is an address without its brackets, not a name.
    return canonical_domain(text) is not None and not _is_address(text)


def _is_hostname(text: str) -> bool:
    return text.isascii() and _is_mail_domain(text)


def split_bind(text: str) -> tuple[str, int] | None:
    """Return (address, port) of `ADDRESS:PORT`, an IPv6 address without its brackets; None if it is no such thing."""
    found = _HOST_PORT.fullmatch(text)
    if not found or int(found["port"]) > 65535:
        return None
    host = found["bracketed"] or found["plain"]
    if not _is_address(host, 6 if found["bracketed"] else 4):
        return None
    return host, int(found["port"])


def _is_nameserver(text: str) -> bool:
    bind = split_bind(text)
    return bind is not None and bind[1] > 0


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _is_via(text: str) -> bool:
    found = _HOST_PORT.fullmatch(text)
    if not found or not found["bracketed"] or not 0 < int(found["port"]) <= 65535:
        return False
    return _is_address(found["bracketed"]) or _is_hostname(found["bracketed"])


def _is_match(text: str) -> bool:
    return text == "*" or (_is_mail_domain(text.removeprefix(".")) and not text.startswith(".["))


def _is_path(text: str) -> bool:
    return text != "" and text.isprintable()


def _is_maildir(text: str) -> bool:
    if not _is_path(text):
        return False
    parts = text.split("/")
    fields = [part for part in parts if part in MAILDIR_FIELDS]
    # With each field a component of its own, different mailboxes differ in one; a ".." behind it would take it back.
    tail = parts[parts.index(fields[0]) :] if fields else []
    return (
        "{local}" in fields and ".." not in tail and not any(BRACE.search(part) for part in parts if part not in fields)
    )


def _is_mailbox(text: str) -> bool:
    address = parse_mailbox(text)
    return isinstance(address, Address) and not _is_address(address.domain)


def _is_local_domain(text: str) -> bool:
    # RFC 5321 s4.5.1: every local domain has this mailbox, so its address must not be too long.
    return _is_mail_domain(text) and _is_mailbox(f"postmaster@{text}")


NAME = Rule("a name of 1 to 64 letters, digits, dots, hyphens or underscores", lambda text: bool(_NAME.fullmatch(text)))
WAIT = _number("seconds, 0 or more", 0.0)
TIMEOUT = _number("seconds, more than 0", 1e-6)
ANY = Rule("a value", lambda _: True)

RULES: dict[str, Rule] = {
    "hostname": Rule("a domain name or an address literal such as [192.0.2.1]", _is_hostname),
    "data_dir": Rule("the path of a directory", _is_path),
    "process.user": Rule("the name of a user", lambda text: text == "" or bool(_NAME.fullmatch(text))),
    "process.drain_s": WAIT,
    "process.hang_s": _number(f"seconds, at least {HANG_LEAST_S:g}", HANG_LEAST_S),
    "workers.count": _count(0, 1024),
    "listener.name": NAME,
    "listener.bind": Rule(
        "ADDRESS:PORT such as 0.0.0.0:25 or [::]:25, port 0 to 65535", lambda text: split_bind(text) is not None
    ),
    "listener.tenant": NAME,
    "listener.connections": _count(0),
    "relay.networks": Rule("a network such as 192.0.2.0/24 or 2001:db8::/32, no host bits set", _is_network),
    "local.domains": Rule("a domain", _is_local_domain),
    "local.maildir": Rule(
        "a path with {local} between slashes, {domain} too if wanted, no other braces, and no .. behind", _is_maildir
    ),
    "local.create": ANY,
    "local.postmaster": Rule("a mail address, or nothing", lambda text: text == "" or _is_mailbox(text)),
    "route.match": Rule('a domain, ".suffix" or "*"', _is_match),
    "route.via": Rule("[address or name]:port such as [192.0.2.1]:25, port 1 to 65535", _is_via),
    "dns.nameservers": Rule("address:port such as 192.0.2.1:53 or [2001:db8::1]:53", _is_nameserver),
    "dns.timeout_s": TIMEOUT,
    "limits.connections": _count(),
    "limits.message_octets": _octets(1, MOST_MESSAGE_OCTETS),
    "limits.recipients": _count(1, MOST_RECIPIENTS),
    "limits.line_octets": _octets(),
    "limits.received": _count(),
    "limits.soft_errors": _count(0),
    "limits.hard_errors": _count(),
    "limits.error_delay_s": WAIT,
    "limits.command_timeout_s": TIMEOUT,
    "limits.data_timeout_s": TIMEOUT,
    "limits.bare_newline": ANY,
    "limits.client.connections": _count(0),
    "limits.client.connections_per_minute": _count(0),
    "limits.client.messages_per_minute": _count(0),
    "limits.client.recipients_per_minute": _count(0),
    "limits.client.errors_per_minute": _count(0),
    "limits.client.prefix_ipv4": _count(1, 32),
    "limits.client.prefix_ipv6": _count(1, 128),
    "limits.client.exempt_relay": ANY,
    "limits.client.shut": ANY,
    "queue.grace_s": WAIT,
    "queue.map_octets": _octets(16 * MIB),
    "queue.reserve_octets": _octets(0),
    "retry.first_s": WAIT,
    "retry.factor": _number("a number, at least 1", 1.0),
    "retry.max_s": WAIT,
    "retry.jitter": _number("a number from 0 to 1", 0.0, 1.0),
    "retry.give_up_s": WAIT,
    "retry.bounce_give_up_s": WAIT,
    "path.connections": _count(),
    "path.window_start": _count(),
    "path.window_max": _count(),
    "path.pause_s": WAIT,
    "path.recipients": _count(1, 100),
    "path.idle_s": WAIT,
    "path.messages_per_connection": _count(),
    "deliver.sessions": _count(),
    "deliver.port": _count(1, 65535),
    "deliver.source_ipv4": Rule("an IPv4 address, or nothing", lambda text: text == "" or _is_address(text, 4)),
    "deliver.source_ipv6": Rule("an IPv6 address, or nothing", lambda text: text == "" or _is_address(text, 6)),
    "deliver.connect_timeout_s": TIMEOUT,
    "deliver.command_timeout_s": TIMEOUT,
    "deliver.data_done_timeout_s": TIMEOUT,
    "events.directory": Rule(
        "the path of a directory, or nothing for data_dir/events", lambda text: text == "" or _is_path(text)
    ),
    "events.segment_octets": _octets(),
    "events.keep_s": WAIT,
}
