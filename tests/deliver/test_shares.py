"""A job in several transactions: reported once, with one outcome for each recipient, whatever became of its shares."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.deliver import Job
from mta.deliver.shares import Shares
from mta.message import Outcome
from tests.deliver.test_remote import job

OK = Outcome("delivered", 250, "2.0.0", "accepted", "mx", "")
TOO_MANY = Outcome("deferred", 452, "4.5.3", "refused at RCPT", "mx", "too many recipients")
LATER = Outcome("deferred", 450, "4.2.1", "refused at RCPT", "mx", "")
NO = Outcome("bounced", 550, "5.1.1", "refused at RCPT", "mx", "")
LOST = Outcome("deferred", 451, "4.4.2", "lost connection", "mx", "")


def all_(letter: Job, outcome: Outcome) -> list[tuple[int, Outcome]]:
    return [(number, outcome) for number, _ in letter.recipients]


def numbers(rows: Iterable[tuple[int, object]]) -> list[int]:
    return sorted(number for number, _ in rows)


@pytest.mark.parametrize(("n_recipients", "sizes"), [(1, [1]), (3, [3]), (4, [3, 1]), (10, [3, 3, 3, 1])])
def test_shares_cut_as_many_as_the_path_takes_at_a_time(n_recipients: int, sizes: list[int]) -> None:
    letters = Shares(3).cut(job(1, n_recipients=n_recipients))
    assert [len(letter.recipients) for letter in letters] == sizes
    assert tuple(row for letter in letters for row in letter.recipients) == job(1, n_recipients=n_recipients).recipients


def test_shares_job_that_fits_is_reported_as_it_is() -> None:
    shares = Shares(3)
    (letter,) = shares.cut(job(1))
    assert shares.done(letter, all_(letter, OK)) == (letter, all_(letter, OK), None)


def test_shares_job_is_reported_with_its_last_share() -> None:
    shares = Shares(2)
    whole = job(1, n_recipients=5)
    first, second, third = shares.cut(whole)
    assert shares.done(first, all_(first, OK)) == (None, (), None)
    assert shares.done(second, all_(second, LATER)) == (None, (), None)
    told, outcomes, rest = shares.done(third, all_(third, NO))
    assert (told, rest) == (whole, None)
    assert list(outcomes) == [(0, OK), (1, OK), (2, LATER), (3, LATER), (4, NO)]


@pytest.mark.parametrize("most", [2, 100])
def test_shares_recipients_that_were_too_many_are_sent_at_once(most: int) -> None:
    shares = Shares(most)
    whole = job(1, n_recipients=2)
    (letter,) = shares.cut(whole)
    told, outcomes, rest = shares.done(letter, [(0, OK), (1, TOO_MANY)])
    assert (told, list(outcomes)) == (None, [])
    assert rest is not None
    assert numbers(rest.recipients) == [1]
    told, outcomes, rest = shares.done(rest, [(1, OK)])
    assert (told, sorted(outcomes), rest) == (whole, [(0, OK), (1, OK)], None)


def test_shares_too_many_without_anyone_accepted_is_not_sent_for_ever() -> None:
    shares = Shares(100)
    (letter,) = shares.cut(job(1, n_recipients=2))
    outcomes = all_(letter, TOO_MANY)
    assert shares.done(letter, outcomes) == (letter, outcomes, None)


@pytest.mark.parametrize(
    ("outcome", "is_sent_again"),
    [
        # RFC 5321 s4.5.3.1.10, RFC 3463 s3.6: 4.5.3, whatever the code; 452 alone; 552 of old, which the client defers.
        (TOO_MANY, True),
        (Outcome("deferred", 451, "4.5.3", "", "mx", ""), True),
        (Outcome("deferred", 452, "4.0.0", "", "mx", ""), True),
        (Outcome("deferred", 552, "5.0.0", "", "mx", ""), True),
        (Outcome("deferred", 552, "5.5.3", "", "mx", ""), True),
        # Full disks and mailboxes, and what stays.
        (Outcome("deferred", 452, "4.3.1", "", "mx", ""), False),
        (Outcome("deferred", 452, "4.2.2", "", "mx", ""), False),
        (Outcome("bounced", 552, "5.2.2", "", "mx", ""), False),
        (LATER, False),
    ],
)
def test_shares_too_many_is_told_from_other_refusals(outcome: Outcome, is_sent_again: bool) -> None:
    _, _, rest = Shares(100).done(job(1, n_recipients=2), [(0, OK), (1, outcome)])
    assert (rest is not None) == is_sent_again


def test_shares_left_job_that_was_not_started_goes_back_whole_and_once() -> None:
    shares = Shares(2)
    whole, other = job(1, n_recipients=5), job(2)
    letters = [*shares.cut(whole), *shares.cut(other)]
    assert shares.left(letters, LOST) == ([whole, other], [])


def test_shares_left_job_of_which_a_share_was_sent_is_reported() -> None:
    shares = Shares(2)
    whole = job(1, n_recipients=5)
    first, second, third = shares.cut(whole)
    shares.done(first, [(0, OK), (1, NO)])
    left, reports = shares.left([second, third], LOST)
    assert left == []
    assert reports == [(whole, [(0, OK), (1, NO), (2, LOST), (3, LOST), (4, LOST)])]
    assert shares.left([], LOST) == ([], [])


# The session ended with it, or before it could be given to the client.
@pytest.mark.parametrize("is_out", [True, False])
def test_shares_rest_that_was_not_sent_any_more_is_reported_with_what_is_known(is_out: bool) -> None:
    shares = Shares(100)
    (letter,) = shares.cut(job(1, n_recipients=3))
    _, _, rest = shares.done(letter, [(0, OK), (1, TOO_MANY), (2, NO)])
    assert rest is not None
    left, ((told, outcomes),) = shares.left([rest] if is_out else [], LOST)
    assert (left, told.part) == ([], letter.part)
    assert outcomes == [(0, OK), (1, LOST), (2, NO)]


FATES = st.sampled_from([OK, LATER, NO, TOO_MANY])


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 20), st.data())
def test_shares_each_recipient_has_one_fate_whatever_happens(
    n_recipients: int, most: int, n_done: int, data: st.DataObject
) -> None:
    shares = Shares(most)
    whole = job(1, n_recipients=n_recipients)
    letters = shares.cut(whole)
    for _ in range(n_done):
        if not letters:
            break
        letter = letters.pop(0)
        told, outcomes, rest = shares.done(letter, [(number, data.draw(FATES)) for number, _ in letter.recipients])
        if told is not None:
            assert (told, letters, rest) == (whole, [], None)
            assert numbers(outcomes) == list(range(n_recipients))
            return
        if rest is not None:
            letters.append(rest)
    left, reports = shares.left(letters, LOST)
    assert len(left) + len(reports) == 1
    for told, outcomes in reports:
        assert told.recipients == whole.recipients
        assert numbers(outcomes) == list(range(n_recipients))
    assert left in ([], [whole])
