"""Mailboxes and paths as they stand in commands. RFC 5321 s4.1.2, RFC 6531 s3.3.

Rule: what is accepted here can be sent on as it is. `Address.text` is the mailbox as the client wrote it, without a
source route; `local` and `domain` are what to compare and to look up.
Called for each MAIL and RCPT, and by whoever has a mailbox as text. UTF-8 is always understood; whether the client may
use it is for the caller to say (`address.text.isascii()`).
A refusal is a returned sentence, fit for a reply: nothing is raised and nothing of the client's text is in it.

The ordinary `<dot-string@domain>` is one regular expression. Everything else takes the careful way, one function for
each rule of the grammar. All repeats that could overlap are possessive: no input makes them try twice.
"""

import ipaddress
import re
import unicodedata

from mta.message import Address

__all__ = [
    "BAD_KEYWORDS",
    "NULL_PATH",
    "canonical_literal",
    "parse_forward_path",
    "parse_mailbox",
    "parse_reverse_path",
]

# RFC 5321 s4.5.3.1.1, s4.5.3.1.2, s4.5.3.1.3; RFC 1035 s2.3.4. The path counts its brackets.
LOCAL_OCTETS = 64
DOMAIN_OCTETS = 255
PATH_OCTETS = 256
LABEL_OCTETS = 63

NULL_PATH = Address("", "", "")
"""The null reverse-path, `<>`. RFC 5321 s4.5.5."""

ATEXT = r"A-Za-z0-9!#$%&'*+\-/=?^_`{|}~"
# RFC 6531 s3.3 lets every character beyond ASCII in. The C1 controls U+0080 to U+009F stay out: they mean nothing in a
# name, and some terminals obey them when a log is read.
BEYOND_ASCII = "\u00a0-\U0010ffff"

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

# Local-part     = Dot-string / Quoted-string
# Dot-string     = Atom *("."  Atom)
# Quoted-string  = DQUOTE *QcontentSMTP DQUOTE
# qtextSMTP      = %d32-33 / %d35-91 / %d93-126 / UTF8-non-ascii
# quoted-pairSMTP  = %d92 %d32-126
LOCAL_PART = re.compile(
    rf"(?:[{ATEXT}{BEYOND_ASCII}]++(?:\.[{ATEXT}{BEYOND_ASCII}]++)*+"
    rf'|"(?:[ !#-\[\]-~{BEYOND_ASCII}]|\\[ -~])*+")(?=@)'
)
QUOTED_PAIR = re.compile(r"\\(.)")

# Let-dig = ALPHA / DIGIT;  Ldh-str = *( ALPHA / DIGIT / "-" ) Let-dig
LDH_LABEL = re.compile(r"[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*+")
IPV4_LITERAL = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")

# What RFC 5892 s2.6 allows in a U-label besides letters, marks and digits.
U_LABEL_EXTRAS = frozenset("-\u00b7\u0375\u05f3\u05f4\u06fd\u06fe\u0f0b\u200c\u200d\u30fb")

BAD_KEYWORD_FROM = "Say MAIL FROM:<address>"
BAD_KEYWORD_TO = "Say RCPT TO:<address>"
BAD_KEYWORDS = frozenset({BAD_KEYWORD_FROM, BAD_KEYWORD_TO})
"""The refusals that are no fault of an address: 5.5.4 instead of 5.1.3 or 5.1.7."""
BAD_BRACKETS = "The address must stand in angle brackets, with nothing but parameters after it"
BAD_UTF8 = "The address is not valid UTF-8"
BAD_LOCAL_PART = "The local part is malformed"
BAD_DOMAIN = "The domain is malformed"
BAD_LITERAL = "The address literal is malformed"
BAD_ROUTE = "The source route is malformed"
NO_DOMAIN = "The address has no domain"
EMPTY_PATH = "A recipient must not be empty"
TOO_LONG = "The address is too long"


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


def parse_mailbox(text: str) -> Address | str:
    """Read a mailbox without brackets and route; return it, or a sentence that says why not.

    Mailbox = Local-part "@" ( Domain / address-literal )
    """
    if (found := LOCAL_PART.match(text)) is None:
        return NO_DOMAIN if "@" not in text else BAD_LOCAL_PART
    written = found[0]
    if _n_octets(written) > LOCAL_OCTETS or _n_octets(text) > PATH_OCTETS - 2:
        return TOO_LONG
    local = QUOTED_PAIR.sub(r"\1", written[1:-1]) if written[0] == '"' else written
    tail = text[found.end() + 1 :]
    if tail.startswith("["):
        literal = canonical_literal(tail)
        return BAD_LITERAL if literal is None else Address(local, literal, text)
    domain = _canonical_domain(tail)
    return BAD_DOMAIN if domain is None else Address(local, domain, text)


def canonical_literal(text: str) -> str | None:
    """Return an address literal, brackets included, in its one canonical form; None when it is malformed.

    address-literal = "[" ( IPv4-address-literal / IPv6-address-literal / General-address-literal ) "]"

    No tag but "IPv6:" was ever registered, so that a general literal is always malformed. Two departures: a `::` for a
    single group is accepted, as RFC 4291 s2.2 has it, because resolvers write it; an IPv4 number with leading zeros is
    not, because some programs read it as octal.
    """
    if not text.isascii() or text[:1] != "[" or text[-1:] != "]":
        return None
    inside = text[1:-1]
    try:
        if IPV4_LITERAL.fullmatch(inside):
            return f"[{ipaddress.IPv4Address(inside)}]"
        if inside[:5].upper() == "IPV6:" and "%" not in inside:
            return f"[IPv6:{ipaddress.IPv6Address(inside[5:])}]"
    except ValueError:
        return None
    return None


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
    if _n_octets(inside) > PATH_OCTETS - 2:
        return TOO_LONG
    # RFC 5321 s4.5.1: this one name needs no domain.
    if bare_postmaster and inside.lower() == "postmaster":
        return Address(inside, "", inside), parameters
    if inside[0] == "@":
        # RFC 5321 s4.1.2: a source route must be understood and should be ignored.
        route, _, inside = inside.partition(":")
        if not all(hop[:1] == "@" and _canonical_domain(hop[1:]) is not None for hop in route.split(",")):
            return BAD_ROUTE
    address = parse_mailbox(inside)
    return address if isinstance(address, str) else (address, parameters)


def _canonical_domain(text: str) -> str | None:
    """Return the domain to compare by, None when it is malformed.

    Domain = sub-domain *("." sub-domain);  sub-domain = Let-dig [Ldh-str] / U-label
    """
    if _n_octets(text) > DOMAIN_OCTETS:
        return None
    if text.isascii():
        labels = text.split(".")
        fits = all(len(label) <= LABEL_OCTETS and LDH_LABEL.fullmatch(label) for label in labels)
        return text.lower() if fits else None
    # Lowercase, not casefold: casefold makes a double s of the German sharp one, and that is another domain.
    domain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    return domain if all(map(_is_label, domain.split("."))) else None


def _is_label(label: str) -> bool:
    """True for an LDH label or a U-label. RFC 5890 s2.3.2.1, RFC 5891 s4.2.3."""
    if label.isascii():
        return len(label) <= LABEL_OCTETS and LDH_LABEL.fullmatch(label) is not None
    if label[0] == "-" or label[-1] == "-" or unicodedata.category(label[0])[0] == "M":
        return False
    if not all(c in U_LABEL_EXTRAS or unicodedata.category(c)[0] in "LMN" for c in label):
        return False
    # What counts is its A-label: "xn--" and the Punycode.
    return len("xn--") + len(label.encode("punycode")) <= LABEL_OCTETS


def _n_octets(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
