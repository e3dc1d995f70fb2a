"""Local mailboxes: where each one lies, and whether it is there.

Rule: no address leads out of the folder that the `maildir` setting gives it, and no two mailboxes share a path.
Called by `accept` through the chain for each RCPT, and by `deliver` for each mail.

In names of folders stand only the letters, digits and signs that an ordinary address has. Everything else, `/` and `%`
and a leading dot among it, is `%` and two hex digits an octet of UTF-8; an empty name is `%` alone; a name too long for
a file system is its first 100 octets, `%h`, and the SHA-256 of the whole in hex.

RFC 5321 s2.4 keeps the case of local parts for the host that knows them. This is that host, and here it makes no
difference: names of folders are lowercase, Alice and alice are one mailbox.
"""

import hashlib
import os
import re
import stat
import string
from pathlib import Path

import msgspec

from mta.config import Local
from mta.message import Address
from mta.policy.postmaster import postmaster_of
from mta.reply import REPLY_550_NO_SUCH_USER, Reply

__all__ = ["REPLY_451_MAILBOXES", "MailboxCheck", "Mailboxes"]

REPLY_451_MAILBOXES = Reply(451, "4.3.0", "Mailboxes cannot be looked up now, try again later")

NAME_OCTETS = 255
KEPT_OCTETS = 100

_UNPLAIN = re.compile(r"^\.|[^a-z0-9!#$&'*+=?^_`{|}~.\[\]:-]")


class Mailboxes:
    """The Maildirs of all local mailboxes."""

    def __init__(self, local: Local) -> None:
        """Take the settings; a relative `maildir` stays relative. Raises ConfigError as `postmaster_of` does."""
        parts = string.Formatter().parse(local.maildir)
        self._parts = tuple((text, field or "") for text, field, _, _ in parts)
        self._domains = frozenset(local.domains)
        self._create = local.create
        postmaster = postmaster_of(local)
        self._postmaster = "" if postmaster is None else self._name(postmaster)

    def path(self, address: Address) -> Path:
        """Return the Maildir of a mailbox, whether it is there or not."""
        return Path(self._name(address))

    def may_create(self, address: Address) -> bool:
        """Return whether a missing Maildir shall be made: any if the operator said so, the postmaster's always."""
        # RFC 5321 s4.5.1: this mailbox must work on a server where nobody thought of making it.
        return self._create or self._name(address) == self._postmaster

    def exists(self, address: Address) -> bool:
        """Return whether the folder of a mailbox is there. Raises OSError when that cannot be told."""
        try:
            return stat.S_ISDIR(os.stat(self._name(address)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    @property
    def root(self) -> Path:
        """The folder that all mailboxes are in: the part of `maildir` that is the same for all."""
        fixed = ""
        for text, field in self._parts:
            fixed += text
            if field:
                break
        return Path(os.path.dirname(fixed))

    def has_domain(self, address: Address) -> bool:
        """Return whether the address is in a local domain."""
        return address.domain in self._domains

    def _name(self, address: Address) -> str:
        name = ""
        for text, field in self._parts:
            name += text
            if field:
                name += _folder(address.local if field == "local" else address.domain)
        return name


class MailboxCheck:
    """Refuses local recipients that have no mailbox."""

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes = mailboxes

    def rcpt(self, recipient: Address, trusted: bool) -> Reply | Address:
        """Return 550 for a local mailbox that is not there and shall not be made, 451 when that cannot be told."""
        mailboxes = self._mailboxes
        if not mailboxes.has_domain(recipient):
            return recipient
        try:
            is_there = mailboxes.exists(recipient) or mailboxes.may_create(recipient)
        except OSError as error:
            why = f"{mailboxes.path(recipient)}: {error.strerror or error}"
            return msgspec.structs.replace(REPLY_451_MAILBOXES, why=why)
        return recipient if is_there else REPLY_550_NO_SUCH_USER


def _folder(text: str) -> str:
    """Return the name of a folder for a local part or domain: other for every other text, lowercase apart."""
    name = _UNPLAIN.sub(_escape, text.lower()) or "%"
    if len(name) > NAME_OCTETS:
        return f"{name[:KEPT_OCTETS]}%h{hashlib.sha256(name.encode()).hexdigest()}"
    return name


def _escape(found: re.Match[str]) -> str:
    return "".join(f"%{octet:02X}" for octet in found[0].encode("utf-8", "surrogatepass"))
