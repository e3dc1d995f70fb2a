"""Holds what came of the mails against the table, recipient for recipient.

Rule: three witnesses are heard, and have to agree: the hosts (what arrived, where, and is it whole), the events, and
the queue. A bounce has a fourth, the notice that its sender got.
"""

import email
import email.policy
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from email.message import EmailMessage
from typing import Any

import msgspec

from bench.internet.load import Mail, Recipient
from bench.internet.peers import Delivery, digest
from bench.internet.sites import SITES, End, Site, site_of

__all__ = ["FATES", "Evidence", "Tally", "judge"]

TOO_LATE = "time-out in the conversation"
FATES = ("delivered", "bounced", "expired", "dropped")
Row = Mapping[str, Any]


class Evidence(msgspec.Struct, frozen=True):
    """What is known when all has settled."""

    ids: Mapping[int, str]
    """Of the mails, by number."""
    deliveries: Sequence[Delivery]
    events: Sequence[Row]
    queued: Mapping[str, Row]
    """What `queue list` says, by id."""
    shown: Mapping[str, Row]
    """What `queue show` says, of those with more than one recipient left, and of some others."""


class Tally(msgspec.Struct):
    """One line of the result: how many recipients of a site had to end how, and what was found."""

    expected: dict[str, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(("delivered", "bounced", "waiting"), 0)
    )
    found: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(("delivered", "bounced", "waiting"), 0))
    wrong: list[str] = msgspec.field(default_factory=list)


class Notice(msgspec.Struct, frozen=True):
    """What a notice says about one recipient, and whom it was sent to."""

    to: str
    status: str
    diagnostic: str
    words: str


def judge(mails: Iterable[Mail], evidence: Evidence) -> dict[str, Tally]:
    """Return what came of the mails to each site, by its name."""
    court = Court(evidence)
    tallies = {site.name: Tally() for site in SITES}
    for mail in mails:
        wanted = digest(mail.content())
        for recipient in mail.recipients:
            tally = tallies[recipient.site]
            end = recipient.end
            problem = court.problem(mail, recipient, wanted)
            tally.expected[end.kind] += 1
            if problem:
                tally.wrong.append(f"{recipient.address} was to be {end.kind}: {problem}")
            else:
                tally.found[end.kind] += 1
    return tallies


class Court:
    """Knows what each witness says of each recipient."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._deliveries: defaultdict[str, list[Delivery]] = defaultdict(list)
        self._notices: defaultdict[str, list[Notice]] = defaultdict(list)
        self._fates: defaultdict[str, list[Row]] = defaultdict(list)
        self._deferred: defaultdict[str, list[Row]] = defaultdict(list)
        for delivery in evidence.deliveries:
            if delivery.content:
                for address, notice in _read_notice(delivery):
                    self._notices[address].append(notice)
            else:
                self._deliveries[delivery.recipient].append(delivery)
        for event in evidence.events:
            if event["event"] in FATES:
                self._fates[event["recipient"]].append(event)
            elif event["event"] == "deferred":
                self._deferred[event["recipient"]].append(event)
        self._pauses = [event for event in evidence.events if event["event"] == "path_paused"]

    def problem(self, mail: Mail, recipient: Recipient, wanted: bytes) -> str:
        """Return what is wrong with the way a recipient's mail ended, "" for nothing."""
        arrived = self._deliveries[recipient.address]
        fates = self._fates[recipient.address]
        notices = self._notices[recipient.address]
        end, site = recipient.end, site_of(recipient.address.partition("@")[2])
        if len(arrived) != (end.kind == "delivered"):
            return f"it arrived {len(arrived)} times"
        kinds = [fate["event"] for fate in fates]
        if kinds != ([] if end.kind == "waiting" else [end.kind]):
            return (
                f"the events are {kinds or 'none'}, {fates[0]['code'] if fates else ''} {fates and fates[0]['reason']}"
            )
        if len(notices) != (end.kind == "bounced" and bool(mail.sender)):
            return f"{len(notices)} notices"
        is_queued = self._is_queued(mail, recipient)
        if is_queued != (end.kind == "waiting"):
            return "it is queued" if is_queued else "it is not queued"
        if excuse := _excuse(self._deferred[recipient.address], end, site):
            return excuse
        if end.kind == "waiting":
            return self._reason_problem(mail, recipient, end, site)
        if end.kind == "delivered":
            return _arrival_problem(arrived[0], mail, site, wanted)
        return _words_problem(fates[0], end) or (_notice_problem(notices[0], mail, end) if notices else "")

    def _is_queued(self, mail: Mail, recipient: Recipient) -> bool:
        id_ = self._evidence.ids[mail.number]
        shown = self._evidence.shown.get(id_)
        if shown is not None:
            return any(row["address"] == recipient.address for row in shown["recipients"])
        queued = self._evidence.queued.get(id_)
        return queued is not None and recipient.address.partition("@")[2] in queued["domains"]

    def _reason_problem(self, mail: Mail, recipient: Recipient, end: End, site: Site) -> str:
        """A mail waits; is it for the right reason?"""
        id_ = self._evidence.ids[mail.number]
        row = self._evidence.queued[id_]
        if id_ in self._evidence.shown:
            rows = self._evidence.shown[id_]["recipients"]
            row = next(one for one in rows if one["address"] == recipient.address)
        if not row["attempts"] and not end.is_hosts:
            return "it was never tried"
        if problem := _words_problem(row["last"], end):
            return problem
        if not end.is_hosts:
            return ""
        if row["attempts"]:
            return f"{row['attempts']} attempts were counted for what is the host's fault: {row['last']}"
        domain = recipient.address.partition("@")[2]
        if any(not _words_problem(pause, end) and _is_of(pause, site, domain) for pause in self._pauses):
            return ""
        return "no pause of its path says why it waits"


def _is_of(pause: Row, site: Site, domain: str) -> bool:
    """Say whether a path leads to a site: its name is made of the hosts', and of the domain where those are unknown."""
    names = [line.split()[0] for line in site.hosts] or [domain]
    return all(name in pause["site"] for name in names)


def _excuse(deferred: Iterable[Row], end: End, site: Site) -> str:
    """Return for what a mail was put off, if no host of its site has said that."""
    for event in deferred:
        is_theirs = event["diagnostic"] and event["diagnostic"] in (site.later, end.said)
        # A machine that is busy may let a host be late.
        if not is_theirs and not event["reason"].startswith(TOO_LATE):
            return f"it was deferred: {event['code']} {event['enhanced']} {event['reason']}; {event['diagnostic']}"
    return ""


def _arrival_problem(delivery: Delivery, mail: Mail, site: Site, wanted: bytes) -> str:
    if delivery.address not in site.listens:
        return f"it went to {delivery.address}"
    if delivery.sender != mail.sender:
        return f"its sender became {delivery.sender}"
    return "" if delivery.digest == wanted else "what arrived is not what was sent"


def _words_problem(row: Row, end: End) -> str:
    """Compare codes and words, of an event or of an outcome that the queue keeps."""
    found = (row["code"], row["enhanced"])
    if found != (end.code, end.enhanced):
        return f"{found} is not ({end.code}, {end.enhanced}): {row['reason']}; {row['diagnostic']}"
    if row["diagnostic"] != end.said:
        return f"the peer's words became {row['diagnostic']!r}"
    return "" if end.because.lower() in row["reason"].lower() else f"the reason is {row['reason']!r}"


def _notice_problem(notice: Notice, mail: Mail, end: End) -> str:
    if notice.to != mail.sender:
        return f"its notice went to {notice.to}"
    if notice.status != end.enhanced:
        return f"its notice says {notice.status}"
    lines = end.said.split("\n") if end.said else []
    said = [f"{end.code}-{line}" for line in lines[:-1]] + [f"{end.code} {line}" for line in lines[-1:]]
    # RFC 3464 s2.1.1: the report itself is ASCII; the words for people are not.
    wanted = " ".join(line.encode("ascii", "replace").decode() for line in said)
    kind, _, found = notice.diagnostic.partition("; ")
    if said and (kind, found) != ("smtp", " ".join(wanted.split())):
        return f"its notice has the words {notice.diagnostic!r}"
    if not said and (kind != "x-posthaste" or end.because.lower() not in found.lower()):
        return f"its notice has the reason {notice.diagnostic!r}"
    missing = [line for line in said if " ".join(line.split()) not in notice.words]
    return f"people are not told {missing}" if missing else ""


def _read_notice(delivery: Delivery) -> Iterable[tuple[str, Notice]]:
    """Yield what a notice says, by recipient. Whatever is no notice says nothing, and is missed elsewhere."""
    message = email.message_from_bytes(delivery.content, _class=EmailMessage, policy=email.policy.default)
    if delivery.sender or message.get_content_type() != "multipart/report":
        return
    people, report, *_ = message.iter_parts()
    words = " ".join(people.get_content().split())
    for group in list(report.iter_parts())[1:]:
        address = str(group["Final-Recipient"]).partition("; ")[2]
        diagnostic = " ".join(str(group["Diagnostic-Code"]).split())
        yield address, Notice(delivery.recipient, str(group["Status"]), diagnostic, words)
