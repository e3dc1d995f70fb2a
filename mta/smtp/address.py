"""Paths as they stand in MAIL and RCPT, and names as they stand in EHLO. RFC 5321 s4.1.2, RFC 6531 s3.3.

Rule: what is accepted here can be sent on as it is. `Address.text` is the mailbox as the client wrote it, without a
source route; `local` and `domain` are what to compare and to look up.
UTF-8 is always understood; whether the client may use it is for the caller to say (`address.text.isascii()`).
A refusal is a returned sentence, fit for a reply: nothing is raised and nothing of the client's text is in it.

The ordinary `<dot-string@domain>` is one regular expression, which agrees with `mta.address`. Everything else takes the
careful way, one function for each rule of the grammar. All repeats that could overlap are possessive: no input makes
them try twice.
"""

import re

from mta.address import (
    ATEXT,
    LOCAL_OCTETS,
    PATH_OCTETS,
    TOO_LONG,
    canonical_domain,
    canonical_literal,
    n_octets,
    parse_mailbox,
)
from mta.message import Address

__all__ = [
    "BAD_KEYWORDS",
    "NULL_PATH",
    "is_hello_name",
    "parse_forward_path",
    "parse_reverse_path",
]

NULL_PATH = Address("", "", "")
"""The null reverse-path, `<>`. RFC 5321 s4.5.5."""

# Letters, digits, hyphens and dots, and the underscore that many a host name has; what it names is for policy to check.
HELLO_NAME = re.compile(rb"[A-Za-z0-9._-]{1,255}")
# sub-domain = Let-dig [Ldh-str]. A domain of 63 octets cannot hold a label that is too long.
ORDINARY = (
    rf" *<(([{ATEXT}]++(?:\.[{ATEXT}]++)*+)"
    r"@((?=[^>]{1,63}>)[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*+(?:\.[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*+)*+))>"
    r"(?: +(.*))?"
)
ORDINARY_FROM = re.compile("(?i:FROM):" + ORDINARY, re.DOTALL)
ORDINARY_TO = re.compile("(?i:TO):" + ORDINARY, re.DOTALL)

# The path ends at the first ">" that is not inside a quoted string.
BRACKETED = re.compile(r' *<((?:[^"<>]|"(?:[^"\\]|\\.)*+")*+)>(?: +(.*))?', re.DOTALL)

BAD_KEYWORD_FROM = "Say MAIL FROM:<address>"
BAD_KEYWORD_TO = "Say RCPT TO:<address>"
BAD_KEYWORDS = frozenset({BAD_KEYWORD_FROM, BAD_KEYWORD_TO})
"""The refusals that are no fault of an address: 5.5.4 instead of 5.1.3 or 5.1.7."""
BAD_BRACKETS = "The address must stand in angle brackets, with nothing but parameters after it"
BAD_UTF8 = "The address is not valid UTF-8"
BAD_ROUTE = "The source route is malformed"
EMPTY_PATH = "A recipient must not be empty"


def is_hello_name(argument: bytes) -> bool:
    """Return whether the argument of EHLO or HELO is a name or an address literal. RFC 5321 s4.1.1.1."""
    return HELLO_NAME.fullmatch(argument) is not None or canonical_literal(argument.decode("latin-1")) is not None


def parse_reverse_path(argument: bytes) -> tuple[Address, str] | str:
    """Read the argument of MAIL: `FROM:` path [parameters].

    `argument` is what follows the verb, without line end. Returns (address, parameters as text, "" for none), or a
    sentence that says why not. The null path gives NULL_PATH. RFC 5321 s4.1.1.2.
    """
    try:
        text = argument.decode()
    except UnicodeDecodeError:
        return BAD_UTF8
    if (found := ORDINARY_FROM.fullmatch(text)) is not None:
        return _ordinary(found)
    if text[:5].upper() != "FROM:":
        return BAD_KEYWORD_FROM
    return _parse_path(text[5:])


def parse_forward_path(argument: bytes) -> tuple[Address, str] | str:
    """Read the argument of RCPT: `TO:` path [parameters], else as `parse_reverse_path`.

    The null path is refused; a bare <Postmaster>, whatever its case, has domain "". RFC 5321 s4.1.1.3.
    """
    try:
        text = argument.decode()
    except UnicodeDecodeError:
        return BAD_UTF8
    if (found := ORDINARY_TO.fullmatch(text)) is not None:
        return _ordinary(found)
    if text[:3].upper() != "TO:":
        return BAD_KEYWORD_TO
    path = _parse_path(text[3:], bare_postmaster=True)
    return EMPTY_PATH if not isinstance(path, str) and path[0] is NULL_PATH else path


def _ordinary(found: re.Match[str]) -> tuple[Address, str] | str:
    text, local, domain, parameters = found.groups("")
    if len(local) > LOCAL_OCTETS:
        return TOO_LONG
    return Address(local, domain.lower(), text), parameters


def _parse_path(text: str, *, bare_postmaster: bool = False) -> tuple[Address, str] | str:
    """Path = "<" [ A-d-l ":" ] Mailbox ">"; A-d-l = At-domain *( "," At-domain )."""
    if (found := BRACKETED.fullmatch(text)) is None:
        return BAD_BRACKETS
    inside, parameters = found[1], found[2] or ""
    if not inside:
        return NULL_PATH, parameters
    if n_octets(inside) > PATH_OCTETS - 2:
        return TOO_LONG
    # RFC 5321 s4.5.1: this one name needs no domain.
    if bare_postmaster and inside.lower() == "postmaster":
        return Address(inside, "", inside), parameters
    if inside[0] == "@":
        # RFC 5321 s4.1.2: a source route must be understood and should be ignored.
        route, _, inside = inside.partition(":")
        # At-domain = "@" Domain: no address literal.
        if not all(hop[:2] != "@[" and hop[:1] == "@" and canonical_domain(hop[1:]) for hop in route.split(",")):
            return BAD_ROUTE
    address = parse_mailbox(inside)
    return address if isinstance(address, str) else (address, parameters)
