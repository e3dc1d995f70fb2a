"""kill -9 under load, at whatever stage each message happens to be."""

import asyncio

from bench.server import Server
from tests.harness.ledger import Ledger

__all__ = ["kill_under_load"]


async def kill_under_load(
    server: Server, ledger: Ledger, names: list[str], n_sessions: int, *, rest_s: float, pace_s: float = 0.0
) -> None:
    """Send without end, kill one child after the other `rest_s` apart, stop a moment after the last was replaced.

    Each session rests `pace_s` between its messages.
    """
    is_over = False

    async def kill() -> None:
        nonlocal is_over
        try:
            for name in names:
                await asyncio.sleep(rest_s)
                pid = server.kill_child(name)
                await asyncio.to_thread(server.wait_replaced, name, pid)
            await asyncio.sleep(rest_s)
        finally:
            is_over = True

    async with asyncio.TaskGroup() as group:
        group.create_task(ledger.send(1_000_000, n_sessions, pace_s=pace_s, is_needed=lambda: not is_over))
        group.create_task(kill())
