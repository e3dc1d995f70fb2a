"""What is learned of a path: how many sessions its hosts bear, whether they are there at all, and when to ask again.

Rule: only what a *host* did counts here: it could not be reached, did not greet us, or said 421 before it took
anything. What it says of a message (4xx to MAIL, RCPT or the data) belongs to the message.

The window is Postfix's: it begins at `window_start`, grows by one with each success while it is used, shrinks by one
with each failure, and a path is dead, which means paused for `pause_s`, once as many sessions failed in a row as the
window has, or when one failed while none was greeted. One thing is added: when hosts refuse a session while others of
the same path work, their number becomes the ceiling for a while, or every success would open the one too many again.

Pure functions on Path; times in ms. Called by `schedule` and what it is made of.
"""

import msgspec

from mta.config import Path as Settings
from mta.message import Outcome
from mta.queue.awake import Path
from mta.store import PathRow

__all__ = [
    "ALIVE_MS",
    "failed",
    "greeted",
    "is_alive",
    "is_paused",
    "kept",
    "leads",
    "lost",
    "make",
    "most_sessions",
    "remember",
    "resume",
    "row_of",
    "succeeded",
]

ALIVE_MS = 600_000
"""A host that greeted us so lately is believed to be there."""
CEILING_MS = 600_000
"""How long a number of sessions that proved too many is not tried again."""
MOST_DOUBLINGS = 5
"""Of `pause_s`, while the name service does not know a domain: with its default the longest pause is 32 minutes."""


def make(source: str, site: str, settings: Settings, row: PathRow | None) -> Path:
    """Return a path as it was remembered, or a new one."""
    path = Path(source, site, settings.window_start)
    if row is not None:
        path.window = max(1, min(row.window, settings.window_max))
        path.paused_until, path.failure = row.paused_until, row.failure
        path.ceiling, path.ceiling_until = row.ceiling, row.ceiling_until
        path.greeted_at = row.greeted_at
        path.n_lost = row.n_lost
    return path


def row_of(path: Path, now: int) -> PathRow:
    """Return what is to be remembered of a path."""
    return PathRow(
        path.source,
        path.site,
        path.paused_until,
        path.failure,
        path.window,
        path.ceiling,
        path.ceiling_until,
        path.greeted_at,
        now,
        path.n_lost,
    )


def remember(row: PathRow, max_age_ms: int, now: int) -> bool:
    """Say whether a row is worth keeping: it pauses its path still, or is young."""
    return row.paused_until > now or row.written_at > now - max_age_ms


def is_paused(path: Path, now: int) -> bool:
    """Say whether nothing may be sent over a path now."""
    return path.paused_until > now


def leads(path: Path, now: int) -> bool:
    """Say whether mail may be sent over a path now."""
    return not path.is_lost and path.paused_until <= now


def is_alive(path: Path, now: int) -> bool:
    """Say whether a host of the path greeted us lately, and none failed since so that the path was paused."""
    return path.greeted_at + ALIVE_MS > now and path.greeted_at > 0 and path.failure is None


def most_sessions(path: Path, settings: Settings, now: int) -> int:
    """Return how many sessions a path may have now."""
    # A second one before the first was greeted would only wait for the same silence.
    # The window may have grown under settings that allowed more.
    most = min(path.window, settings.window_max, settings.connections) if is_alive(path, now) else 1
    return min(most, path.ceiling) if path.ceiling_until > now else most


def greeted(path: Path, now: int) -> bool:
    """A host of the path greeted us; return whether that ends a time of failure."""
    was_failing = path.failure is not None
    # Written down only now and then: nothing depends on the second.
    path.is_changed |= was_failing or now - path.greeted_at > ALIVE_MS // 10
    path.greeted_at = now
    path.failure = None
    path.paused_until = 0
    return was_failing


def kept(path: Path, now: int) -> None:
    """A worker has a session that a host of the path greeted; what failed since, if anything did, stands."""
    path.greeted_at = max(path.greeted_at, now)


def succeeded(path: Path, settings: Settings, now: int) -> None:
    """A host of the path had its say about a message, whatever it was."""
    path.n_cohorts = 0.0
    path.greeted_at = now
    most = min(settings.window_max, settings.connections)
    # A window that is not used has not been tried.
    if path.window < most and path.window < len(path.sessions) + settings.window_start:
        path.n_succeeded += 1.0
        if path.n_succeeded >= 1.0:
            path.window += 1
            path.n_succeeded = 0.0
            path.n_failed = 0.0
            path.is_changed = True


def failed(path: Path, settings: Settings, outcome: Outcome, now: int) -> bool:
    """A host of the path failed; return whether the path is paused for it."""
    path.is_changed = True
    path.n_succeeded = 0.0
    n_working = sum(session.is_greeted for session in path.sessions.values())
    path.n_cohorts += 1.0 / path.window
    path.window = max(1, path.window - 1)
    if n_working and path.n_cohorts < 1.0:
        path.ceiling, path.ceiling_until = n_working, now + CEILING_MS
        return False
    path.n_cohorts = 0.0
    path.window = settings.window_start
    path.failure = msgspec.structs.replace(outcome, status="deferred")
    path.paused_until = now + round(settings.pause_s * 1000)
    return True


def lost(path: Path, settings: Settings, outcome: Outcome, now: int) -> None:
    """Nobody knows the site of a path that is lost: it rests, each time twice as long as the time before."""
    path.is_changed = True
    path.failure = outcome
    path.paused_until = now + round(settings.pause_s * 1000) * 2 ** min(path.n_lost, MOST_DOUBLINGS)
    path.n_lost += 1


def resume(path: Path) -> None:
    """An operator wants the path tried at once."""
    path.is_changed = path.is_changed or path.paused_until > 0
    path.paused_until = 0
