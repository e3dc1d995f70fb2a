"""Notices to senders: who gets one, and as what message it is queued. RFC 3461 s6, RFC 5321 s4.5.5, s6.1.

Rule: never for the null sender, and from the null sender always, so that no notice begets another. One notice for all
recipients that failed in one settlement; it is stored in the same transaction as their failure.
"""

import contextlib
from collections.abc import Sequence

from mta.address import parse_mailbox
from mta.config import Retry
from mta.deliver import Job
from mta.link import Notice, PutHead, PutPart, QueueLink
from mta.message import Outcome, QueueName, now_ms
from mta.report import HEADER_OCTETS, FailedRecipient, Original, Received, build_notice
from mta.report import encode as encode_event
from mta.store import EIGHT_BIT, READ_ERRORS, UTF8

__all__ = ["Notices"]


class Notices:
    """Writes them; made once a worker."""

    def __init__(self, hostname: str, link: QueueLink, retry: Retry) -> None:
        self._hostname = hostname
        self._link = link
        self._lifetime_ms = round(retry.bounce_give_up_s * 1000)

    def maybe_write(
        self, job: Job, received_at: int, tenant: str, results: Sequence[tuple[int, str, Outcome]]
    ) -> Notice | None:
        """Return the notice that a settlement needs, None if it needs none."""
        failed = [
            FailedRecipient(address, outcome, "expired" if outcome.status == "expired" else "bounced")
            for _, address, outcome in results
            if outcome.status in ("bounced", "expired")
        ]
        if not failed or not job.sender:
            return None
        sender = parse_mailbox(job.sender)
        if isinstance(sender, str):
            return None
        now = now_ms()
        id_ = self._link.ids.make()
        about = job.part[:16]
        original = Original(about, job.sender, received_at, job.utf8, _headers(job))
        made = build_notice(self._hostname, id_, original, failed, now, (now - received_at) / 1000)
        event = Received(now, id_, tenant, "", 1, len(made.content), "", "", "bounce", "", about)
        flags = (EIGHT_BIT if made.has_8bit else 0) | (UTF8 if made.utf8 else 0)
        part = PutPart(QueueName(tenant, "", 0, sender.domain, ""), 0, (sender.text,))
        head = PutHead(id_, "", now, self._lifetime_ms, tenant, "", flags, (part,), encode_event(event))
        return Notice(head, made.content)


def _headers(job: Job) -> bytes:
    """Return the beginning of a message, enough of it for a notice; what is lost of it is no reason to tell nothing."""
    headers = b""
    with contextlib.suppress(*READ_ERRORS):
        for piece in range(job.n_pieces):
            headers += job.read(piece)
            if len(headers) > HEADER_OCTETS or b"\r\n\r\n" in headers:
                break
    return headers
