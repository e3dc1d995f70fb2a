"""A small internet of 60 domains with a real nameserver: every mail ends as the table of sites has it.

The same as `python -m bench.internet`, which sends ten times as much; see bench/internet/sites.py for who lives there.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from bench.internet.judge import Evidence, judge
from bench.internet.load import make_load
from bench.internet.peers import Delivery
from bench.internet.run import run
from bench.internet.sites import SITES
from tests.harness import require_tool

N_MAILS = 2000
SEED = 4


def test_every_mail_to_sixty_domains_ends_as_it_has_to() -> None:
    """One run, looked at from all sides: a second one would take as long."""
    require_tool("nsd", "nsd")
    result = run(N_MAILS, SEED)
    wrong = [words for tally in result.tallies.values() for words in tally.wrong]
    assert not wrong, "\n".join(wrong[:20])
    for name, tally in result.tallies.items():
        assert tally.found == tally.expected, name
        # The table is not empty anywhere: each site had something to say about some mail.
        assert sum(tally.expected.values()), name
    # Sites were treated with manners, and nothing was lost between them.
    assert result.problems == []
    for tamper in TAMPERS:
        tallies = judge(result.mails, tamper(result.evidence))
        assert sum(len(tally.wrong) for tally in tallies.values()) == 1, tamper


def test_load_is_the_same_for_the_same_seed_and_reaches_every_domain() -> None:
    mails = make_load(N_MAILS, SEED)
    assert mails == make_load(N_MAILS, SEED)
    assert mails != make_load(N_MAILS, SEED + 1)
    reached = {recipient.address.partition("@")[2] for mail in mails for recipient in mail.recipients}
    assert reached == {domain for site in SITES for domain in site.domains}
    assert len(reached) == 60


# What if it had come otherwise? Each changes what is known of one recipient, and that one has to be found wrong.


def _first_delivery(evidence: Evidence) -> Delivery:
    return next(delivery for delivery in evidence.deliveries if not delivery.content)


def _with_delivery(evidence: Evidence, **changes: object) -> Evidence:
    first = _first_delivery(evidence)
    changed = msgspec.structs.replace(first, **changes)
    return msgspec.structs.replace(
        evidence, deliveries=[changed if delivery is first else delivery for delivery in evidence.deliveries]
    )


def _with_event(evidence: Evidence, kind: str, **changes: object) -> Evidence:
    first = next(
        event for event in evidence.events if event["event"] == kind and event["diagnostic"].startswith("5.1.1")
    )
    return msgspec.structs.replace(
        evidence, events=[{**event, **changes} if event is first else event for event in evidence.events]
    )


def _lost(evidence: Evidence) -> Evidence:
    first = _first_delivery(evidence)
    return msgspec.structs.replace(
        evidence, deliveries=[delivery for delivery in evidence.deliveries if delivery is not first]
    )


def _twice(evidence: Evidence) -> Evidence:
    return msgspec.structs.replace(evidence, deliveries=[*evidence.deliveries, _first_delivery(evidence)])


def _without_a_notice(evidence: Evidence) -> Evidence:
    first = next(delivery for delivery in evidence.deliveries if delivery.content.count(b"Final-Recipient") == 1)
    return msgspec.structs.replace(
        evidence, deliveries=[delivery for delivery in evidence.deliveries if delivery is not first]
    )


def _with_another_notice(evidence: Evidence) -> Evidence:
    first = next(delivery for delivery in evidence.deliveries if b"she left in May" in delivery.content)
    other = msgspec.structs.replace(first, content=first.content.replace(b"she left in May", b"she left in July"))
    return msgspec.structs.replace(
        evidence, deliveries=[other if delivery is first else delivery for delivery in evidence.deliveries]
    )


def _without_a_queued_one(evidence: Evidence) -> Evidence:
    first = next(id_ for id_, row in evidence.queued.items() if row["n_open"] == 1 and id_ not in evidence.shown)
    return msgspec.structs.replace(evidence, queued={id_: row for id_, row in evidence.queued.items() if id_ != first})


def _with_another_reason(evidence: Evidence) -> Evidence:
    first = next(
        id_ for id_, row in evidence.queued.items() if row["last"]["code"] == 452 and id_ not in evidence.shown
    )
    row: dict[str, Any] = dict(evidence.queued[first])
    row["last"] = {**row["last"], "enhanced": "4.2.1"}
    return msgspec.structs.replace(evidence, queued={**evidence.queued, first: row})


TAMPERS: list[Callable[[Evidence], Evidence]] = [
    _lost,
    _twice,
    lambda evidence: _with_delivery(evidence, digest=b"\0" * 32),
    lambda evidence: _with_delivery(evidence, address="127.0.0.21"),
    lambda evidence: _with_delivery(evidence, sender="other@home-01.test"),
    lambda evidence: _with_event(evidence, "bounced", event="expired"),
    lambda evidence: _with_event(evidence, "bounced", code=551),
    lambda evidence: _with_event(evidence, "bounced", diagnostic="5.1.1 No mailbox here by that name"),
    _without_a_notice,
    _with_another_notice,
    _without_a_queued_one,
    _with_another_reason,
]
