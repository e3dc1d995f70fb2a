"""Five days of mail to sites that are good, slow, refuse for hours, are dead for days or for ever, or come and go."""

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest

from mta.config import Path as PathSettings
from mta.config import Retry
from mta.message import LOST_SITE
from mta.queue import plans as plans_module
from mta.report import Deferred, Dropped, Expired, Fault, PathPaused, PathResumed
from mta.store import Writer
from mta.store.codec import decode_counter

from .samples import T0, events, n_rows, put
from .simulation import CONNECT_MS, DAY_MS, HOUR_MS, STEP_MS, Simulation, Site

N_MESSAGES = 10_000
N_DOMAINS = 300
LIFE_MS = 2 * DAY_MS
RETRY = Retry(first_s=300, factor=2, max_s=4000, jitter=0.1, give_up_s=LIFE_MS / 1000)
SETTINGS = PathSettings(connections=20, window_start=5, window_max=20, pause_s=300)
TABLES = ("message", "part", "recipient", "body", "due", "timer", "queue", "queue_name", "wake", "gone")


def flapping(since: int) -> str:
    return "busy" if since // (HOUR_MS // 2) % 2 else "up"


def made_sites() -> dict[str, Site]:
    """Return the site of each domain, by what it does: the name of a site begins with that."""
    sites: list[Site] = []
    for number in range(80):
        name = f"{number}.mx"
        if number < 6:
            sites.append(Site("refusing" + name, lambda t: "refusing" if t < 9 * HOUR_MS else "up"))
        elif number < 11:
            sites.append(Site("away" + name, lambda t: "dead" if t < 40 * HOUR_MS else "up"))
        elif number < 15:
            sites.append(Site("dead" + name, lambda _: "dead"))
        elif number < 22:
            sites.append(Site("flapping" + name, flapping))
        elif number < 30:
            sites.append(Site("slow" + name, part_ms=20_000))
        elif number < 34:
            sites.append(Site("strange" + name, lambda t: "unknown" if t < 15 * HOUR_MS else "up"))
        elif number < 38:
            sites.append(Site("gone" + name, lambda _: "gone"))
        else:
            sites.append(Site("good" + name))
    by_domain = {f"d{number}.test": sites[number % len(sites)] for number in range(N_DOMAINS)}
    by_domain["a.test"] = Site("goodhome.mx")
    by_domain["lost.test"] = Site("deadhome.mx", lambda _: "dead")
    return by_domain


@pytest.fixture(scope="module")
def simulation() -> Iterator[Simulation]:
    """Give a simulation after its five days."""
    # In RAM where that can be had: it is not the disk that is tested.
    shared = Path("/dev/shm")
    folder = tempfile.mkdtemp(dir=shared if shared.is_dir() else None)
    writer = Writer(folder, 1 << 30)
    chance = random.Random(11)
    sites = made_sites()
    simulation = Simulation(writer, sites, RETRY, SETTINGS)

    def step_wall_clock() -> None:
        simulation.wall_ms += chance.choice([-5 * DAY_MS, 40 * DAY_MS, HOUR_MS])

    for day in range(5):
        simulation.at(T0 + day * DAY_MS + 7 * HOUR_MS, step_wall_clock)
    # One burst, and the rest over two days.
    for number in range(N_MESSAGES):
        when = T0 + (HOUR_MS if number < 1500 else chance.randrange(2 * DAY_MS))
        simulation.at(when, lambda number=number: arrive(simulation, chance, number))  # type: ignore[misc]
    # Everything is killed twice, once while much is paused.
    with patch.object(plans_module, "REMEMBER_MS", 10 * 60_000):
        for until in (T0 + 20 * HOUR_MS, T0 + 45 * HOUR_MS + 1234, T0 + 5 * DAY_MS):
            simulation.run(until)
            simulation.start()
            simulation.run(simulation.now + 10 * STEP_MS)
    yield simulation
    writer.close()
    shutil.rmtree(folder)


def arrive(simulation: Simulation, chance: random.Random, number: int) -> None:
    domains = {f"d{chance.randrange(N_DOMAINS)}.test" for _ in range(1 + (number % 10 == 0))}
    who = "nobody" if number % 50 == 0 else "x"
    parts = [tuple(f"{who}{n}@{domain}" for n in range(1 + number % 3 // 2)) for domain in sorted(domains)]
    message = put(number, *parts, content=b"content", tenant=f"t{number % 4}", lifetime_ms=LIFE_MS)
    sender = "s@lost.test" if number % 40 == 0 else "s@a.test"
    wall = simulation.now + simulation.wall_ms
    simulation.put(
        msgspec.structs.replace(message, head=msgspec.structs.replace(message.head, sender=sender, received_at=wall))
    )


def site_of(simulation: Simulation, part: bytes) -> str:
    letter = simulation.letters[part]
    return simulation.sites[letter.head.parts[part[-1]].queue.domain].name


def test_five_days_every_recipient_has_one_fate_and_nothing_is_left(simulation: Simulation) -> None:
    assert simulation.n_put == N_MESSAGES
    for part, fates in simulation.fates.items():
        letter = simulation.letters[part]
        assert len(fates) == len(letter.open), f"part {part.hex()} to {site_of(simulation, part)} has no fate"
    assert n_rows(simulation.writer, *TABLES) == dict.fromkeys(TABLES, 0)
    assert simulation.writer.live_octets == simulation.writer.n_messages == 0


def test_five_days_books_balance_and_nothing_was_at_fault(simulation: Simulation) -> None:
    received = Counter[str]()
    for letter in simulation.letters.values():
        received[letter.head.tenant] += len(letter.open)
    for _, value in simulation.writer.look("counter", b"", 100):
        row = decode_counter(value)
        assert row.received == row.delivered + row.bounced + row.expired + row.dropped == received[row.tenant]
        assert row.dropped == 0
    assert not [event for event in events(simulation.writer) if isinstance(event, Fault | Dropped)]


def test_five_days_mail_arrives_expires_or_bounces_as_its_site_behaves(simulation: Simulation) -> None:
    told = Counter[tuple[str, str]]()
    for part, fates in simulation.fates.items():
        letter = simulation.letters[part]
        kind = site_of(simulation, part).rstrip("0123456789.mx")
        for number, fate in fates.items():
            is_bad = dict(letter.open)[number].startswith("nobody")
            assert fate == "expired" if kind.startswith("dead") else fate != "expired", (kind, fate)
            assert is_bad or (fate == "bounced") == (kind == "gone")
            told[kind, fate] += 1
    assert told["dead", "expired"] > 400
    assert told["deadhome", "expired"] > 10
    assert told["gone", "bounced"] > 400
    assert min(told[kind, "delivered"] for kind in ("refusing", "away", "flapping", "slow", "strange", "good")) > 400


def test_five_days_failures_are_told_by_one_notice_and_no_notice_begets_another(simulation: Simulation) -> None:
    failed = sum(
        any(fate in ("bounced", "expired") for fate in fates.values())
        for part, fates in simulation.fates.items()
        if not simulation.letters[part].is_notice
    )
    assert simulation.n_notices == failed > 400


def test_five_days_what_expires_does_so_within_a_minute_even_on_paused_paths(simulation: Simulation) -> None:
    assert len(simulation.late_reports) > 400
    assert min(simulation.late_reports) >= 0
    # What is being dialled for then is waited for.
    assert max(simulation.late_reports) <= 60_000 + CONNECT_MS
    for event in events(simulation.writer):
        if isinstance(event, Expired):
            # Attempts are what a host said of the message; nobody said anything.
            assert event.attempts == 0


def test_five_days_names_that_nobody_knows_are_asked_for_less_and_less_often(simulation: Simulation) -> None:
    lost: dict[str, list[tuple[int, int]]] = {}
    for event in events(simulation.writer):
        if isinstance(event, PathPaused) and event.site.startswith(LOST_SITE):
            lost.setdefault(event.site, []).append((event.at, event.next_at))
    assert len(lost) == len([site for site in simulation.sites.values() if site.name.startswith("strange")])
    for rests in lost.values():
        waits = [until - at for at, until in rests]
        assert waits == sorted(waits)
        assert waits[-1] == 32 * waits[0]
    # New mail asks, too; what comes in meanwhile is not held against a domain.
    n_mails = sum(site_of(simulation, part).startswith(("strange", "gone")) for part in simulation.fates)
    assert simulation.n_failed_questions <= 3 * n_mails + sum(map(len, lost.values()))


def test_five_days_retries_come_when_they_should(simulation: Simulation) -> None:
    tried: dict[tuple[bytes, int], list[Deferred]] = {}
    for event in events(simulation.writer):
        if isinstance(event, Deferred):
            tried.setdefault((event.id, event.number), []).append(event)
    assert len(tried) > 300
    for deferrals in tried.values():
        assert [event.attempts for event in deferrals] == list(range(1, len(deferrals) + 1))
        for event in deferrals:
            middle = min(300.0 * 2 ** (event.attempts - 1), 4000.0) * 1000
            assert middle * 0.9 - 1 <= event.next_at - event.at <= middle * 1.1 + 1
    for site, late in simulation.late_retries.items():
        if site.startswith(("refusing", "good")):
            assert late < 120_000, f"{site} was {late} ms late"


def test_five_days_no_path_is_dialled_while_it_rests_and_each_is_tried_soon_after(simulation: Simulation) -> None:
    pauses: dict[str, list[tuple[int, int]]] = {}
    for event in events(simulation.writer):
        if isinstance(event, PathPaused | PathResumed) and event.site.startswith(LOST_SITE):
            continue
        if isinstance(event, PathPaused):
            pauses.setdefault(event.site, []).append((event.at, event.next_at))
        elif isinstance(event, PathResumed):
            # Sessions that were open when it was paused may show that it is there.
            at, until = pauses[event.site][-1]
            pauses[event.site][-1] = (at, min(until, event.at))
    dials: dict[str, list[int]] = {}
    for site, at in simulation.dials:
        dials.setdefault(site, []).append(at)
    assert {site.rstrip("0123456789.mx") for site in pauses} == {"away", "dead", "deadhome", "flapping"}
    for site, rests in pauses.items():
        for at, until in rests:
            assert not [dial for dial in dials[site] if at < dial < until], f"{site} was dialled while it rests"
        for (_, until), (again, _) in pairwise(rests):
            assert again >= until
    # A dead site costs one try a pause, not more.
    for site, rests in pauses.items():
        if site.startswith("dead"):
            assert len(dials[site]) <= len(rests) + 3
