"""When a worker takes new mail: as long as there is room for it here, and in the queue."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from mta.accept.shared import HELD_OCTETS, Shared
from mta.config import Config, Listener
from mta.link import QueueLink
from mta.message import IdMaker
from mta.state import StateLink


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Give a loop that nothing runs in."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


def made(loop: asyncio.AbstractEventLoop) -> tuple[Shared, SimpleNamespace]:
    link = SimpleNamespace(ids=IdMaker(1, 1), note=None, has_storage=True)
    config = Config(hostname="mx.test", data_dir="/nowhere", listener=(Listener(),))
    return Shared(config, cast(QueueLink, link), cast(StateLink, None), loop), link


def test_shared_without_room_in_the_queue_takes_no_new_mail(loop: asyncio.AbstractEventLoop) -> None:
    shared, link = made(loop)
    assert shared.has_room
    link.has_storage = False
    assert not shared.has_room
    # What is under way already may still come in: the queue process says what becomes of it.
    assert shared.hold(1)
    link.has_storage = True
    assert shared.has_room


def test_shared_that_holds_too_much_takes_no_new_mail_until_some_is_gone(loop: asyncio.AbstractEventLoop) -> None:
    shared, _ = made(loop)
    assert shared.hold(HELD_OCTETS)
    assert not shared.has_room
    assert shared.hold(HELD_OCTETS - 1)
    assert not shared.hold(1)
    shared.release(HELD_OCTETS + 1)
    assert shared.has_room


def test_shared_under_stress_has_less_patience_and_afterwards_as_much_as_before(
    loop: asyncio.AbstractEventLoop,
) -> None:
    shared, _ = made(loop)
    before = shared.limits
    shared.stress(is_on=True)
    under = shared.limits
    assert (under.command_timeout_s, under.data_timeout_s, under.hard_errors) == (10, 10, 1)
    assert (under.recipients, under.message_octets) == (before.recipients, before.message_octets)
    shared.stress(is_on=False)
    assert shared.limits == before
