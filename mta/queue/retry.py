"""When a deferred part is tried again. RFC 5321 s4.5.4.1."""

from mta.config import Retry

__all__ = ["next_attempt"]


def next_attempt(retry: Retry, attempts: int, now: int, chance: float) -> int:
    """Return when to try again, in ms: `attempts` have failed, the last one at `now`; `chance` is in 0..1.

    The wait starts at `first_s`, grows by `factor` up to `max_s`, and is moved by up to `jitter` either way, so that
    what failed together does not come back together.
    """
    wait_s = retry.first_s
    for _ in range(attempts - 1):
        wait_s *= retry.factor
        if wait_s >= retry.max_s:
            break
    wait_s = min(wait_s, retry.max_s) * (1 + retry.jitter * (2 * chance - 1))
    return now + round(wait_s * 1000)
