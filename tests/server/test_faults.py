"""What is broken on the disk is set aside alone, and is told."""

import time

import lmdb

from bench.sink import Rule, Sink
from bench.wait import wait_until
from tests.harness import Ledger, relaying, run_async
from tests.server.conftest import Serve


def test_row_that_cannot_be_decoded_is_set_aside_and_the_rest_goes_on(sink: Sink, serve: Serve) -> None:
    sink.rule(Rule(stage="rcpt", reply="451 4.2.0 later"))
    server = serve(relaying(sink.via, retry={"first_s": 2}))
    ledger = Ledger(server.address)
    run_async(ledger.send(3, 1))
    server.wait_events(3, "deferred")
    assert server.stop() == 0
    first, *others = ledger.acknowledged.items()
    with lmdb.open(str(server.data_dir / "queue"), map_size=1 << 30, max_dbs=32) as env:
        table = env.open_db(b"message", create=False)
        with env.begin(write=True) as txn:
            assert txn.replace(bytes.fromhex(first[1]), b"\xc1 garbage", db=table) is not None
    sink.rule()
    server.start()
    sink.wait_count(2)
    wait_until(lambda: server.count()["aside"] == 1, "one aside", step_s=0.2)
    assert server.count()["recipients"] == 1
    assert sorted(to for message in sink.messages() for to in message.recipients) == sorted(to for to, _ in others)
    (fault,) = server.wait_events(1, "fault")
    assert fault["id"] == first[1]
    # It is told once, and nobody comes back to it.
    time.sleep(0.4)
    assert len(server.events("fault")) == 1
    assert server.stop() == 0
