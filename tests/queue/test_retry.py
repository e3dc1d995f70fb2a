"""When a deferred part is tried again, and that the queue process's time runs forward."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config import Retry
from mta.queue.clock import Clock
from mta.queue.retry import next_attempt

RETRY = Retry(first_s=100, factor=2, max_s=1000, jitter=0.1)


@pytest.mark.parametrize(
    ("attempts", "chance", "wait_s"),
    [
        # The first wait, and each one longer by the factor.
        (1, 0.5, 100),
        (2, 0.5, 200),
        (4, 0.5, 800),
        # The cap.
        (5, 0.5, 1000),
        (1_000_000_000, 0.5, 1000),
        # Jitter goes either way, also from the cap.
        (1, 0.0, 90),
        (1, 1.0, 110),
        (9, 1.0, 1100),
    ],
)
def test_next_attempt_waits_as_configured(attempts: int, chance: float, wait_s: int) -> None:
    assert next_attempt(RETRY, attempts, 5_000, chance) == 5_000 + wait_s * 1000


@given(st.integers(1, 60), st.floats(0, 1), st.floats(0, 1))
def test_next_attempt_any_jitter_stays_within_its_share(attempts: int, chance: float, jitter: float) -> None:
    middle = min(100 * 2 ** (attempts - 1), 1000) * 1000
    got = next_attempt(Retry(first_s=100, factor=2, max_s=1000, jitter=jitter), attempts, 0, chance)
    assert middle * (1 - jitter) - 1 <= got <= middle * (1 + jitter) + 1


def test_clock_never_runs_back() -> None:
    clock = Clock()
    times = [clock.now_ms() for _ in range(1000)]
    assert times == sorted(times)
    assert times[0] > T0


T0 = 1_700_000_000_000
