"""Local mail of a running server: once, whatever dies; and what is wrong with a mailbox is for the operator's eyes."""

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

from bench.client import Client
from bench.sink import Sink
from bench.wait import wait_until
from tests.harness import Ledger, relaying, run_async
from tests.server.conftest import Serve

PLAIN = b"Subject: x\r\n\r\nx\r\n"


def test_mailboxes_processes_die_and_each_message_is_there_once(sink: Sink, serve: Serve, tmp_path: Path) -> None:
    local = {"domains": ["here.test"], "maildir": f"{tmp_path}/{{local}}", "create": True}
    server = serve(relaying(sink.via, local=local))
    ledger = Ledger(server.address, domain="here.test")

    async def scenario() -> None:
        is_over = False
        sending = asyncio.create_task(ledger.send(100_000, 8, is_needed=lambda: not is_over))
        for name in ("worker 1", "worker 2", "queue", "worker 1", "worker 2"):
            await asyncio.sleep(random.uniform(0.2, 0.4))
            await asyncio.to_thread(lambda name=name: server.wait_replaced(name, server.kill_child(name)))  # type: ignore[misc]
        is_over = True
        await sending

    run_async(scenario())
    server.wait_empty()
    # The name of a file holds the id.
    stored = Counter(path.name.split(".")[1][:32] for path in tmp_path.glob("*/new/*"))
    assert set(ledger.acknowledged.values()) <= stored.keys()
    assert [id_ for id_, n_files in stored.items() if n_files > 1] == []
    assert list(tmp_path.glob("*/tmp/*")) == []
    assert len(ledger.acknowledged) > 100


def test_mailboxes_that_cannot_be_written_defer_and_senders_learn_no_path(
    sink: Sink, serve: Serve, tmp_path: Path
) -> None:
    for name in ("ann", "bob"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "new").touch()
    local = {"domains": ["here.test"], "maildir": f"{tmp_path}/{{local}}"}
    server = serve(relaying(sink.via, local=local, retry={"first_s": 1, "give_up_s": 4}))

    async def scenario() -> None:
        client = Client(*server.address)
        await client.connect()
        answer = await client.send("sender@source.test", ["ann@here.test", "bob@here.test"], PLAIN)
        assert answer.code == 250
        await client.close()

    run_async(scenario())
    rows = server.wait_events(2, "deferred")
    assert {row["recipient"]: row["diagnostic"] for row in rows[:2]} == {
        f"{name}@here.test": f"{tmp_path}/{name}: Not a directory" for name in ("ann", "bob")
    }
    (last,) = [row["last"] for row in server.run_json("queue", "list")]
    assert last["diagnostic"].startswith(str(tmp_path))
    os.unlink(tmp_path / "bob" / "new")
    wait_until(lambda: bool(list(tmp_path.glob("bob/new/*"))), "the mail for bob")
    sink.wait_count(1)
    (notice,) = sink.messages()
    assert notice.recipients == ["sender@source.test"]
    said = notice.content.decode()
    assert "the mailbox cannot be written to now" in " ".join(said.split())
    assert "ann@here.test" in said
    assert str(tmp_path) not in said
    assert "Not a directory" not in said
