"""What is sent into the small internet: the same mails for the same seed, and the hands that send them.

Rule: how each recipient's mail has to end follows from its address, the mail and the table of sites alone.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence

import msgspec

from bench.client import Client
from bench.internet.sites import DELIVERED, HOME, SITES, End, Site, site_of

__all__ = ["Mail", "Recipient", "inject", "make_load"]

N_SENDERS = 20
# Of all mails, per cent.
TO_SEVERAL = 10
TO_MANY = 1
WITHOUT_SENDER = 2
WITH_8BIT = 10
LARGE = 0.2
LARGE_OCTETS = 300_000
SMALL_OCTETS = (300, 4000)
LINE = b"The quick brown fox jumps over the lazy dog, and so on.".ljust(70, b".") + b"\r\n"
LINE_8BIT = "Fünf flinke Füchse springen über faule Hunde.".encode().ljust(70, b".") + b"\r\n"


class Recipient(msgspec.Struct, frozen=True):
    """One recipient, and how its mail has to end."""

    address: str
    site: str
    end: End


class Mail(msgspec.Struct, frozen=True):
    """One mail; `sender` may be "" for the null reverse-path."""

    number: int
    sender: str
    recipients: tuple[Recipient, ...]
    octets: int
    has_8bit: bool

    def content(self) -> bytes:
        """Return it whole, different from every other."""
        head = f"From: {self.sender or 'MAILER-DAEMON'}\r\nSubject: mail {self.number}\r\n\r\n".encode()
        line = LINE_8BIT if self.has_8bit else LINE
        # A line that begins with a dot, and an end of its own.
        return head + b".\r\n" + line * (self.octets // len(line)) + f"..end of {self.number}\r\n".encode()


def make_load(n_mails: int, seed: int) -> list[Mail]:
    """Return mails for all domains of the table: one for each first, then as their shares have it."""
    chance = random.Random(seed)
    domains = [domain for site in SITES for domain in site.domains]
    weights = list(_weights())
    mails = []
    for number in range(n_mails):
        first = domains[number] if number < len(domains) else chance.choices(domains, weights)[0]
        mails.append(_mail(number, first, domains, weights, chance))
    return mails


def _weights() -> Iterator[float]:
    """Yield the share of each domain: the first of a site has half of what the site has, the next half of the rest."""
    for site in SITES:
        left = site.share
        for number in range(1, site.n_domains + 1):
            share = left if number == site.n_domains else left / 2
            left -= share
            yield share


def _mail(number: int, first: str, domains: Sequence[str], weights: Sequence[float], chance: random.Random) -> Mail:
    dice = chance.uniform(0, 100)
    has_8bit = chance.uniform(0, 100) < WITH_8BIT
    to = [first]
    if dice < TO_MANY and site_of(first).end == DELIVERED and "spam" not in site_of(first).mailboxes:
        to *= chance.randint(8, 30)
    elif dice < TO_MANY + TO_SEVERAL:
        # Each domain once: what a site says of a whole mail then concerns one recipient.
        to = list(dict.fromkeys([first, *chance.choices(domains, weights, k=chance.randint(1, 3))]))
    recipients = []
    for at, domain in enumerate(to):
        site = site_of(domain)
        kind = _kind(site, chance, has_8bit=has_8bit)
        recipients.append(
            Recipient(f"{kind}.{number:06d}.{at}@{domain}", site.name, site.mailboxes.get(kind, site.end))
        )
    sender = f"s{chance.randrange(N_SENDERS):02d}@{HOME.domains[0]}"
    if chance.uniform(0, 100) < WITHOUT_SENDER:
        sender = ""
    octets = LARGE_OCTETS if chance.uniform(0, 100) < LARGE else chance.randint(*SMALL_OCTETS)
    return Mail(number, sender, tuple(recipients), octets, has_8bit)


def _kind(site: Site, chance: random.Random, *, has_8bit: bool) -> str:
    """Return what the local part begins with."""
    if "eight" in site.mailboxes:
        return "eight" if has_8bit else "box"
    return chance.choice(["box", *site.mailboxes])


async def inject(address: tuple[str, int], mails: Sequence[Mail], n_sessions: int) -> dict[int, str]:
    """Send all mails as fast as they are taken; return the ids that they got, by number.

    Raises RuntimeError for a mail that is refused, or a connection that breaks: nothing here is a reason for either.
    """
    ids: dict[int, str] = {}
    left = iter(mails)

    async def work(session: int) -> None:
        client = Client(*address)
        await client.connect()
        for mail in left:
            params = "BODY=8BITMIME" if mail.has_8bit else ""
            to = [recipient.address for recipient in mail.recipients]
            answer = await client.send(mail.sender, to, mail.content(), params=params, pipelined=session % 2 == 0)
            if answer.code != 250:
                raise RuntimeError(f"mail {mail.number} was refused: {answer.code} {answer.text}")
            ids[mail.number] = answer.queued_id
        await client.close()

    try:
        async with asyncio.TaskGroup() as group:
            for session in range(n_sessions):
                group.create_task(work(session))
    except* (OSError, EOFError, RuntimeError) as errors:
        raise RuntimeError(f"{len(ids)} mails were taken, and then: {errors.exceptions[0]}") from errors
    return ids
