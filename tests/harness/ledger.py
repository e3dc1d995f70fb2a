"""Load with a ledger: every 250 is written down, so that a test can hold the server to its word."""

import asyncio
from collections.abc import Callable

from bench.client import Answer, Client

__all__ = ["Ledger"]

RETRY_S = 0.05


class Ledger:
    """Sends messages over several sessions and keeps count of what was promised and what went wrong.

    Each message has a recipient of its own. What breaks or gets a 4xx is tried again over a new connection, as a client
    would, under the same recipient: what is acknowledged must arrive, and may arrive twice.
    """

    def __init__(self, address: tuple[str, int], *, domain: str = "sink.test", octets: int = 2000) -> None:
        self._address = address
        self._domain = domain
        self._octets = octets
        self.acknowledged: dict[str, str] = {}
        """Ids by recipient, of messages that got their 250."""
        self.refused: list[Answer] = []
        """Every reply to a message that was not 250."""
        self.n_broken = 0
        """Connections that broke or were refused."""

    def content(self, number: int) -> bytes:
        """Return message `number`, different from every other."""
        head = f"From: ledger@source.test\r\nSubject: {number}\r\n\r\n".encode()
        line = f"line of message {number} ".encode().ljust(70, b".") + b"\r\n"
        return head + line * max(1, (self._octets - len(head)) // len(line))

    async def send(
        self, n_messages: int, n_sessions: int, *, pace_s: float = 0.0, is_needed: Callable[[], bool] = lambda: True
    ) -> None:
        """Send messages until all have their 250, or `is_needed` says no; each session rests `pace_s` in between."""
        numbers = iter(range(n_messages))

        async def work(session: int) -> None:
            client: Client | None = None
            for number in numbers:
                if not is_needed():
                    break
                recipient = f"m{number:06d}@{self._domain}"
                while recipient not in self.acknowledged and is_needed():
                    try:
                        if client is None:
                            client = await self._connected()
                        answer = await client.send(
                            "ledger@source.test", [recipient], self.content(number), pipelined=session % 2 == 0
                        )
                    except (OSError, EOFError):
                        self.n_broken += 1
                        await self._drop(client)
                        client = None
                        continue
                    if answer.code == 250:
                        self.acknowledged[recipient] = answer.queued_id
                    else:
                        self.refused.append(answer)
                        await self._drop(client)
                        client = None
                if pace_s:
                    await asyncio.sleep(pace_s)
            if client is not None:
                await client.close()

        async with asyncio.TaskGroup() as group:
            for session in range(n_sessions):
                group.create_task(work(session))

    async def _connected(self) -> Client:
        client = Client(*self._address)
        await client.connect()
        return client

    async def _drop(self, client: Client | None) -> None:
        if client is not None:
            await client.close(quits=False)
        await asyncio.sleep(RETRY_S)
