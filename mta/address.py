"""Mailboxes and domains as text: the one grammar, and the one form to compare by. RFC 5321 s4.1.2, RFC 6531 s3.3.

Rule: two spellings of one domain have one canonical form, and everything that asks whether two domains are the same
(who may send here, where mail goes, whose mailbox it is) compares canonical forms and nothing else.
Called for addresses in commands and settings. A refusal is a returned sentence, fit for a reply: nothing is raised and
nothing of the given text is in it. All repeats that could overlap are possessive: no input makes them try twice.
"""

import ipaddress
import re
import unicodedata

from mta.message import Address

__all__ = [
    "ATEXT",
    "LOCAL_OCTETS",
    "PATH_OCTETS",
    "TOO_LONG",
    "canonical_domain",
    "canonical_literal",
    "n_octets",
    "parse_mailbox",
]

# RFC 5321 s4.5.3.1.1, s4.5.3.1.2, s4.5.3.1.3; RFC 1035 s2.3.4. The path counts its brackets.
LOCAL_OCTETS = 64
DOMAIN_OCTETS = 255
PATH_OCTETS = 256
LABEL_OCTETS = 63

ATEXT = r"A-Za-z0-9!#$%&'*+\-/=?^_`{|}~"
# RFC 6531 s3.3 lets every character beyond ASCII in. The C1 controls U+0080 to U+009F stay out: they mean nothing in a
# name, and some terminals obey them when a log is read.
BEYOND_ASCII = "\u00a0-\U0010ffff"

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

BAD_LOCAL_PART = "The local part is malformed"
BAD_DOMAIN = "The domain is malformed"
BAD_LITERAL = "The address literal is malformed"
NO_DOMAIN = "The address has no domain"
TOO_LONG = "The address is too long"


def parse_mailbox(text: str) -> Address | str:
    """Read a mailbox without brackets and route; return it, or a sentence that says why not.

    Mailbox = Local-part "@" ( Domain / address-literal )
    """
    if (found := LOCAL_PART.match(text)) is None:
        return NO_DOMAIN if "@" not in text else BAD_LOCAL_PART
    written = found[0]
    if n_octets(written) > LOCAL_OCTETS or n_octets(text) > PATH_OCTETS - 2:
        return TOO_LONG
    local = QUOTED_PAIR.sub(r"\1", written[1:-1]) if written[0] == '"' else written
    tail = text[found.end() + 1 :]
    domain = canonical_domain(tail)
    if domain is None:
        return BAD_LITERAL if tail.startswith("[") else BAD_DOMAIN
    return Address(local, domain, text)


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


def canonical_domain(text: str) -> str | None:
    """Return what follows the at sign in the one form to compare by, None when it is malformed.

    Domain = sub-domain *("." sub-domain);  sub-domain = Let-dig [Ldh-str] / U-label; or an address literal
    """
    if text.startswith("["):
        return canonical_literal(text)
    if n_octets(text) > DOMAIN_OCTETS:
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


def n_octets(text: str) -> int:
    """Return the octets of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())
