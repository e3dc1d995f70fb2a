"""Which paths are in RAM: those that are used, and those of which the table does not know yet what was learned."""

from unittest.mock import patch

import pytest

from mta.config import Path as Settings
from mta.queue import pathbook as pathbook_module
from mta.queue.awake import Path, Session
from mta.queue.pathbook import MOST_WRITTEN, PathBook

from .samples import T0


@pytest.fixture
def book() -> PathBook:
    """Give an empty one."""
    return PathBook(Settings())


def left(book: PathBook, site: str, paused_until: int = T0) -> Path:
    """Return a path of which something was learned, and which nobody uses any more."""
    path = book.take(site, None)
    path.paused_until = paused_until
    path.is_changed = True
    book.rest(path)
    assert book.maybe_leave(path)
    return path


def used(book: PathBook, site: str) -> Path:
    path = book.take(site, None)
    path.sessions[1] = Session(1, path, 1)
    return path


def sites(book: PathBook) -> list[str]:
    return [row.site for row in book.to_remember(T0)]


def test_pathbook_path_is_here_until_its_row_is_committed(book: PathBook) -> None:
    path = left(book, "site")
    assert sites(book) == ["site"]
    # That row is not committed yet.
    assert book.take("site", None) is path
    assert book.maybe_leave(path)
    assert book.take("site", None) is path
    assert book.maybe_leave(path)
    assert sites(book) == []
    assert book.take("site", None) is not path


def test_pathbook_path_that_changes_while_its_row_is_written_is_written_again(book: PathBook) -> None:
    path = left(book, "site")
    assert sites(book) == ["site"]
    assert left(book, "site", T0 + 1) is path
    [row] = book.to_remember(T0)
    assert row.paused_until == T0 + 1
    assert sites(book) == []


def test_pathbook_returns_many_rows_piece_by_piece_those_of_left_paths_first(book: PathBook) -> None:
    here = used(book, "here")
    here.is_changed = True
    expected = {left(book, f"site{n}").site for n in range(2 * MOST_WRITTEN + 7)}
    pieces = [sites(book)]
    while book.has_more:
        pieces.append(sites(book))
    assert [len(piece) for piece in pieces] == [MOST_WRITTEN, MOST_WRITTEN, 8]
    assert pieces[-1][-1] == "here"
    assert {site for piece in pieces for site in piece} == expected | {"here"}
    assert sites(book) == []


def test_pathbook_path_that_is_dropped_before_its_turn_is_not_written(book: PathBook) -> None:
    for n in range(2 * MOST_WRITTEN):
        left(book, f"site{n}")
    written = sites(book)
    waiting = next(f"site{n}" for n in range(2 * MOST_WRITTEN) if f"site{n}" not in written)
    assert book.drop(waiting)
    # What was written a moment ago has to be taken back, too.
    assert book.drop(written[0])
    assert not book.drop("other")
    again = sites(book)
    assert len(again) == MOST_WRITTEN - 1
    assert waiting not in again


def test_pathbook_is_full_until_enough_is_written(book: PathBook) -> None:
    with patch.object(pathbook_module, "MOST_LEFT", 2 * MOST_WRITTEN):
        for n in range(2 * MOST_WRITTEN):
            assert not book.is_full
            left(book, f"site{n}")
        assert book.is_full
        sites(book)
        sites(book)
        assert not book.is_full


def test_pathbook_forgets_the_pauses_of_paths_that_are_not_here(book: PathBook) -> None:
    with patch.object(pathbook_module, "SPARE_PAUSES", 10):
        kept = used(book, "kept")
        kept.paused_until = T0 + 500
        book.rest(kept)
        for n in range(100):
            left(book, f"site{n}", T0 + n)
        assert len(book._pauses) <= 13
        assert book.rested(T0 + 499) == []
        assert book.rested(T0 + 500) == [kept]
        # One that is taken again rests as before.
        again = book.take("site99", None)
        assert book.next_rested() == again.paused_until
