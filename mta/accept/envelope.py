"""From an accepted transaction to what is put into the queue: Received on top, recipients cut into parts.

Called once a message by the protocol, after the session has nothing against it. RFC 5321 s4.4, s6.3.
"""

import msgspec

from mta._fast import count_received, has_8bit_header, normalize
from mta.link import PutHead, PutPart
from mta.message import Address, QueueName, now_ms
from mta.reply import REPLY_554_LOOP, Reply
from mta.report import Received
from mta.report import encode as encode_event
from mta.smtp import DateStamp, Session, received_field
from mta.store import EIGHT_BIT, UTF8

__all__ = ["REPLY_552_NORMALIZED", "Builder", "Origin"]

# DESIGN section 3: a part is leased, deferred and settled as one.
PART_RECIPIENTS = 100
REPLY_552_NORMALIZED = Reply(552, "5.3.4", "The message is larger than we accept once its line ends are mended")


class Origin(msgspec.Struct, frozen=True):
    """Where a connection came from and by which listener."""

    client: str
    listener: str
    tenant: str


class Builder:
    """Makes PUT heads; one per worker."""

    def __init__(self, hostname: str, max_received: int, give_up_s: float, max_octets: int) -> None:
        self._hostname = hostname
        self.max_received = max_received
        """More Received fields than this are a loop."""
        self._max_octets = max_octets
        self._give_up_ms = round(give_up_s * 1000)
        self._stamp = DateStamp()

    def build(
        self, id_: bytes, session: Session, origin: Origin, body: bytes, *, bare: bool, has_8bit: bool
    ) -> tuple[PutHead, tuple[bytes, bytes]] | Reply:
        """Return the head and the content (Received, body) of a message, or the reply that refuses it.

        `bare` says that the body holds CR or LF alone, which are to be mended; `has_8bit` that it holds octets >= 0x80.
        """
        if bare:
            body = normalize(body)
            if len(body) > self._max_octets:
                return REPLY_552_NORMALIZED
        if count_received(body) > self.max_received:
            return REPLY_554_LOOP
        has_8bit_fields = has_8bit and session.utf8 and has_8bit_header(body)
        head, received = self.head(id_, session, origin, len(body), has_8bit=has_8bit, has_8bit_fields=has_8bit_fields)
        return head, (received, body)

    def head(
        self, id_: bytes, session: Session, origin: Origin, octets: int, *, has_8bit: bool, has_8bit_fields: bool
    ) -> tuple[PutHead, bytes]:
        """Return the head and the Received field of a message whose body has `octets`.

        `has_8bit_fields` says that octets >= 0x80 stand, or may stand, in its header section.
        """
        now = now_ms()
        sender = session.sender.text if session.sender is not None else ""
        # A mailbox given twice is one recipient, however it is spelled: a domain has no case, quotes are no letters.
        mailboxes = {(recipient.local, recipient.domain): recipient for recipient in session.recipients}
        recipients = {recipient.text: recipient for recipient in mailboxes.values()}
        received = received_field(
            session.helo,
            origin.client,
            self._hostname,
            session.protocol,
            id_.hex(),
            next(iter(recipients)) if len(recipients) == 1 else "",
            self._stamp.text(now / 1000),
        )
        flags = 0
        if has_8bit:
            if session.body_8bit:
                flags |= EIGHT_BIT
            if session.utf8 and has_8bit_fields:
                flags |= UTF8
        if session.utf8 and not sender.isascii():
            # What its recipients need is seen with each part, when it is delivered.
            flags |= UTF8
        event = Received(
            now,
            id_,
            origin.tenant,
            sender,
            len(recipients),
            len(received) + octets,
            origin.client,
            session.helo,
            session.protocol,
            origin.listener,
            b"",
        )
        head = PutHead(
            id_,
            sender,
            now,
            self._give_up_ms,
            origin.tenant,
            "",
            flags,
            _parts(recipients, origin.tenant),
            encode_event(event),
        )
        return head, received


def _parts(recipients: dict[str, Address], tenant: str) -> tuple[PutPart, ...]:
    """Cut recipients into parts: one domain each, at most PART_RECIPIENTS.

    Addresses beyond ASCII get parts of their own: a peer without SMTPUTF8 must refuse those, and only those.
    """
    if len(recipients) == 1:
        ((text, address),) = recipients.items()
        return (PutPart(QueueName(tenant, "", 0, address.domain, ""), 0, (text,)),)
    together: dict[tuple[str, bool], list[str]] = {}
    for text, address in recipients.items():
        together.setdefault((address.domain, text.isascii()), []).append(text)
    parts: list[PutPart] = []
    first = 0
    for (domain, _), texts in together.items():
        name = QueueName(tenant, "", 0, domain, "")
        for start in range(0, len(texts), PART_RECIPIENTS):
            some = tuple(texts[start : start + PART_RECIPIENTS])
            parts.append(PutPart(name, first, some))
            first += len(some)
    return tuple(parts)
