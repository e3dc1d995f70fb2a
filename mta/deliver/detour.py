"""Letters on their way to another host of the same site, because the one at hand cannot take them or has failed.

Rule: a letter that came here is told of in the end, even if no other host can be asked: what became of it at the last
host that had a say is kept. It is given up for good only where every host was asked and lacks what it needs; one that
could not be asked might have it. RFC 5321 s5.1, RFC 6531 s3.2, RFC 6152 s3, RFC 1870 s5.

So a letter sees each host of a session once, and comes back with an attempt counted: nothing is tried for ever.
Used by the remote courier.
"""

from collections.abc import Iterable, Sequence

import msgspec

from mta.deliver.contract import Job
from mta.message import Outcome
from mta.smtp import TryNext

__all__ = ["Detour", "ruling"]

Outcomes = Sequence[tuple[int, Outcome]]
Key = tuple[bytes, int]


class Detour:
    """The letters of one courier that wait for its next connection."""

    def __init__(self) -> None:
        self._waiting: list[Job] = []
        self._told: dict[Key, TryNext[Job]] = {}

    @property
    def is_needed(self) -> bool:
        """Letters wait for another host."""
        return bool(self._waiting)

    def add(self, event: TryNext[Job]) -> None:
        """Keep a letter for the next host, and what is told of it if there turns out to be none."""
        self._told[_key(event.letter)] = event
        self._waiting.append(event.letter)

    def bring(self, letters: Iterable[Job]) -> None:
        """Keep letters that a host failed before it had a say about any."""
        self._waiting += letters

    def reclaim(self, letters: Iterable[Job]) -> list[Job]:
        """Keep those of `letters` that were on their way already; return the others."""
        others: list[Job] = []
        for letter in letters:
            (self._waiting if _key(letter) in self._told else others).append(letter)
        return others

    def take(self) -> list[Job]:
        """Give out what waits: there is a host now."""
        letters, self._waiting = self._waiting, []
        return letters

    def done(self, letter: Job) -> None:
        """A letter has its outcome."""
        if self._told:
            self._told.pop(_key(letter), None)

    def settle(self) -> tuple[list[Job], list[tuple[Job, Outcomes]]]:
        """There is no other host. Return the letters that no host had a say about, and the others with outcomes."""
        untold: list[Job] = []
        reports: list[tuple[Job, Outcomes]] = []
        for letter in self.take():
            event = self._told.pop(_key(letter), None)
            if event is None:
                untold.append(letter)
            else:
                reports.append((letter, ruling(event, was_asked_everywhere=False)))
        return untold, reports


def ruling(event: TryNext[Job], *, was_asked_everywhere: bool) -> Outcomes:
    """Return the outcomes of a letter that no other host is asked about."""
    if was_asked_everywhere or not event.is_misfit:
        return event.outcomes
    return [(number, _put_off(outcome)) for number, outcome in event.outcomes]


def _put_off(outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(
        outcome,
        status="deferred",
        code=451,
        enhanced=f"4{outcome.enhanced[1:]}",
        reason=f"{outcome.reason}, and another host could not be asked",
    )


def _key(letter: Job) -> Key:
    # Shares of one job have different recipients.
    return letter.part, letter.recipients[0][0]
