"""What is learned of a path: the window as Postfix moves it, pauses, ceilings, and what is remembered."""

import pytest

from mta.config import Path as Settings
from mta.message import Outcome
from mta.queue import paths
from mta.queue.awake import Path, Session
from mta.queue.paths import ALIVE_MS, CEILING_MS

from .samples import T0

SETTINGS = Settings(connections=20, window_start=5, window_max=20, pause_s=60)
FAILURE = Outcome("deferred", 421, "4.3.2", "the peer ended the session", "mx", "busy")


def made(n_greeted: int = 0, n_silent: int = 0, window: int | None = None) -> Path:
    """Return a path with so many sessions."""
    path = paths.make("", "site", SETTINGS, None)
    for number in range(n_greeted + n_silent):
        session = Session(number, path, 1)
        session.is_greeted = number < n_greeted
        path.sessions[number] = session
    if window is not None:
        path.window = window
    if n_greeted:
        paths.greeted(path, T0)
    return path


# The window: it begins at window_start, a success is worth one, a failure costs one.


def test_paths_window_grows_by_one_with_each_success_while_it_is_used() -> None:
    path = made(5)
    windows = []
    for n in range(30):
        paths.succeeded(path, SETTINGS, T0)
        windows.append(path.window)
        while len(path.sessions) < path.window:
            path.sessions[100 + n] = Session(100 + n, path, 1)
    assert windows[:4] == [6, 7, 8, 9]
    assert windows[-1] == 20


def test_paths_window_that_is_not_used_does_not_grow() -> None:
    path = made(1)
    for _ in range(50):
        paths.succeeded(path, SETTINGS, T0)
    assert path.window == 1 + SETTINGS.window_start


@pytest.mark.parametrize(("connections", "window_max", "most"), [(20, 8, 8), (3, 20, 5), (7, 20, 7)])
def test_paths_window_grows_no_further_than_it_may(connections: int, window_max: int, most: int) -> None:
    path = made(20)
    settings = Settings(connections=connections, window_start=5, window_max=window_max)
    for _ in range(50):
        paths.succeeded(path, settings, T0)
    assert path.window == most
    assert paths.most_sessions(path, settings, T0) == min(connections, most)


@pytest.mark.parametrize(
    ("window", "n_failures", "left", "is_paused"),
    [
        # One failure among sessions that work costs one.
        (5, 1, 4, False),
        (5, 2, 3, False),
        # As many in a row as the window had, which shrinks meanwhile: 1/5 + 1/4 + 1/3 + 1/2 > 1.
        (5, 4, 5, True),
        (5, 3, 2, False),
        (20, 1, 19, False),
        (1, 1, 5, True),
        (2, 2, 5, True),
        (2, 1, 1, False),
    ],
)
def test_paths_failures_in_a_row_shrink_the_window_and_then_pause(
    window: int, n_failures: int, left: int, is_paused: bool
) -> None:
    path = made(3, window=window)
    told = [paths.failed(path, SETTINGS, FAILURE, T0) for _ in range(n_failures)]
    assert told == [False] * (n_failures - 1) + [is_paused]
    assert (path.window, paths.is_paused(path, T0)) == (left, is_paused)


def test_paths_success_in_between_forgives_the_failures() -> None:
    path = made(3, window=3)
    for _ in range(20):
        assert not paths.failed(path, SETTINGS, FAILURE, T0)
        paths.succeeded(path, SETTINGS, T0)
    assert path.window == 3
    assert not paths.is_paused(path, T0)


def test_paths_failure_where_nobody_greeted_pauses_at_once() -> None:
    path = made(0, 1)
    assert paths.failed(path, SETTINGS, FAILURE, T0)
    assert path.paused_until == T0 + 60_000
    assert path.failure == FAILURE
    assert (paths.is_paused(path, T0 + 59_999), paths.is_paused(path, T0 + 60_000)) == (True, False)
    # When it goes on, one session asks whether anybody is there.
    assert not paths.is_alive(path, T0 + 60_000)
    assert paths.most_sessions(path, SETTINGS, T0 + 60_000) == 1


def test_paths_failure_is_kept_as_deferred_whatever_it_was() -> None:
    path = made()
    paths.failed(path, SETTINGS, Outcome("bounced", 554, "5.7.1", "no", "mx", ""), T0)
    assert path.failure == Outcome("deferred", 554, "5.7.1", "no", "mx", "")


# The ceiling


def test_paths_refused_beside_sessions_that_work_makes_their_number_the_ceiling() -> None:
    path = made(4, window=12)
    assert not paths.failed(path, SETTINGS, FAILURE, T0)
    assert paths.most_sessions(path, SETTINGS, T0) == 4
    for _ in range(20):
        paths.succeeded(path, SETTINGS, T0 + CEILING_MS - 1)
    assert paths.most_sessions(path, SETTINGS, T0 + CEILING_MS - 1) == 4
    paths.succeeded(path, SETTINGS, T0 + CEILING_MS)
    assert paths.most_sessions(path, SETTINGS, T0 + CEILING_MS) > 4


# Alive, paused, resumed


def test_paths_first_greeting_makes_alive_and_only_the_end_of_a_failure_is_news() -> None:
    path = made()
    assert not paths.is_alive(path, T0)
    assert paths.most_sessions(path, SETTINGS, T0) == 1
    assert not paths.greeted(path, T0)
    assert paths.is_alive(path, T0 + ALIVE_MS - 1)
    assert not paths.is_alive(path, T0 + ALIVE_MS)
    assert paths.most_sessions(path, SETTINGS, T0) == 5
    paths.failed(path, SETTINGS, FAILURE, T0)
    assert paths.greeted(path, T0 + 1)
    assert not paths.is_paused(path, T0 + 1)
    assert paths.is_alive(path, T0 + 1)


def test_resume_ends_the_pause_but_proves_nothing() -> None:
    path = made()
    paths.failed(path, SETTINGS, FAILURE, T0)
    paths.resume(path)
    assert not paths.is_paused(path, T0)
    assert not paths.is_alive(path, T0)
    assert path.failure == FAILURE


# What is remembered


def test_paths_remembered_path_is_as_it_was() -> None:
    path = made(4, window=9)
    paths.failed(path, SETTINGS, FAILURE, T0)
    row = paths.row_of(path, T0 + 5)
    again = paths.make("", "site", SETTINGS, row)
    assert paths.row_of(again, T0 + 5) == row
    assert (again.window, again.ceiling, again.greeted_at) == (8, 4, T0)
    assert not again.is_changed
    # Its settings may have changed since.
    assert paths.make("", "site", Settings(window_max=6), row).window == 6


@pytest.mark.parametrize(
    ("paused_until", "age_ms", "is_kept"), [(T0 + 1, 10**9, True), (T0, 10**9, False), (0, 99, True), (0, 100, False)]
)
def test_remember_keeps_what_pauses_still_or_is_young(paused_until: int, age_ms: int, is_kept: bool) -> None:
    path = made()
    path.paused_until = paused_until
    assert paths.remember(paths.row_of(path, T0 - age_ms), 100, T0) is is_kept
