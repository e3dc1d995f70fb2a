"""What uvloop may call of a connection that is no `asyncio.Protocol` by its bases."""

import asyncio

import pytest

from mta.accept.protocol import SmtpProtocol
from mta.deliver import RemoteCourier

CALLBACKS = [name for name in dir(asyncio.Protocol) if not name.startswith("_")]


@pytest.mark.parametrize("protocol", [SmtpProtocol, RemoteCourier])
@pytest.mark.parametrize("name", CALLBACKS)
def test_protocol_has_every_callback(protocol: type, name: str) -> None:
    assert callable(getattr(protocol, name, None)), f"{protocol.__name__}.{name}"
