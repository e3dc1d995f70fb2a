"""One job in several transactions: as many recipients at a time as the path allows, or as the peer is willing to take.

Rule: a job is reported once, with an outcome for each of its recipients; its shares are nobody else's business.
Used by the remote courier. RFC 5321 s4.5.3.1.10.
"""

from collections.abc import Sequence

import msgspec

from mta.deliver.contract import Job
from mta.message import Outcome

__all__ = ["Shares"]

Outcomes = Sequence[tuple[int, Outcome]]
NOBODY: frozenset[int] = frozenset()


class Whole:
    """A job under way in shares: what is decided, and how many shares are still out."""

    __slots__ = ("job", "n_out", "outcomes")

    def __init__(self, job: Job, n_out: int) -> None:
        self.job = job
        self.n_out = n_out
        self.outcomes: list[tuple[int, Outcome]] = []


class Shares:
    """The jobs of one courier that do not fit one transaction."""

    def __init__(self, most_recipients: int) -> None:
        self._most = most_recipients
        self._wholes: dict[bytes, Whole] = {}

    def cut(self, job: Job) -> list[Job]:
        """Return the letters that a job makes: itself, as a rule."""
        recipients = job.recipients
        if len(recipients) <= self._most:
            return [job]
        shares = [
            msgspec.structs.replace(job, recipients=recipients[at : at + self._most])
            for at in range(0, len(recipients), self._most)
        ]
        self._wholes[job.part] = Whole(job, len(shares))
        return shares

    def done(self, letter: Job, outcomes: Outcomes) -> tuple[Job | None, Outcomes, Job | None]:
        """Take what became of a letter; return the job to report with its outcomes (None: not yet), and a letter for
        the recipients that were too many, to be sent at once (None: there are none)."""
        whole = self._wholes.get(letter.part)
        rest = _too_many(outcomes)
        if rest:
            if whole is None:
                whole = self._wholes[letter.part] = Whole(letter, 1)
            whole.outcomes += [row for row in outcomes if row[0] not in rest]
            again = tuple([row for row in letter.recipients if row[0] in rest])
            return None, (), msgspec.structs.replace(letter, recipients=again)
        if whole is None:
            return letter, outcomes, None
        whole.outcomes += outcomes
        whole.n_out -= 1
        if whole.n_out:
            return None, (), None
        del self._wholes[letter.part]
        return whole.job, whole.outcomes, None

    def left(self, letters: Sequence[Job], outcome: Outcome) -> tuple[list[Job], list[tuple[Job, Outcomes]]]:
        """Sort what a session left over: jobs that were not started, and jobs of which a share was: to be reported,
        with `outcome` for every recipient that nothing is known of."""
        untouched: dict[bytes, Job] = {}
        reports: list[tuple[Job, Outcomes]] = []
        for letter in letters:
            whole = self._wholes.get(letter.part)
            if whole is None or not whole.outcomes:
                untouched[letter.part] = letter if whole is None else whole.job
        for whole in self._wholes.values():
            if whole.outcomes:
                known = dict(whole.outcomes)
                reports.append(
                    (whole.job, [(number, known.get(number, outcome)) for number, _ in whole.job.recipients])
                )
        self._wholes.clear()
        return list(untouched.values()), reports


def _too_many(outcomes: Outcomes) -> frozenset[int]:
    """Return the numbers of the recipients that a peer put off only because there were too many of them.

    Where others were delivered, so that each transaction has fewer than the one before, and the last one none.
    """
    found = [n for n, outcome in outcomes if outcome.status == "deferred" and _says_too_many(outcome)]
    if not found or "delivered" not in [outcome.status for _, outcome in outcomes]:
        return NOBODY
    return frozenset(found)


def _says_too_many(outcome: Outcome) -> bool:
    # Without an enhanced code 452 is what RFC 5321 has for it, and 552 what RFC 821 had; the client defers no other.
    return outcome.enhanced == "4.5.3" or outcome.code == 552 or (outcome.code == 452 and outcome.enhanced == "4.0.0")
