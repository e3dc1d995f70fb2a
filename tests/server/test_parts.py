"""A message to many: cut into parts, delivered with as many recipients a transaction as `path` allows, content once."""

from collections import Counter

from bench.client import Client
from bench.server import Server
from bench.sink import Rule, Sink
from mta.store import Reader
from tests.harness import relaying, run_async
from tests.server.conftest import Serve

MAIL = b"Subject: to many\r\n\r\n" + b"x" * 70 + b"\r\n"


def _send(server: Server, recipients: list[str]) -> None:
    async def scenario() -> None:
        client = Client(*server.address)
        await client.connect()
        assert (await client.send("a@source.test", recipients, MAIL)).code == 250
        await client.close()

    run_async(scenario())


def _recipients() -> list[str]:
    return [f"u{number}@d{number % 300}.test" for number in range(1000)]


def test_thousand_recipients_in_300_domains_each_have_a_fate_of_their_own(sink: Sink, serve: Serve) -> None:
    sink.rule(
        Rule(stage="rcpt", match="u7@d7.test", reply="550 5.1.1 Nobody"),
        Rule(stage="rcpt", match="@d9.test", reply="451 4.2.0 Later", times=4),
    )
    server = serve(relaying(sink.via))
    recipients = _recipients()
    _send(server, recipients)
    server.wait_empty()
    arrived = Counter(to for message in sink.messages() if message.sender for to in message.recipients)
    assert arrived == Counter(set(recipients) - {"u7@d7.test"})
    assert [row["recipient"] for row in server.events("bounced")] == ["u7@d7.test"]
    assert {row["recipient"] for row in server.events("deferred")} == {
        to for to in recipients if to.endswith("@d9.test")
    }
    delivered = server.wait_events(1000, "delivered")
    # One of the thousand is the notice about the one that failed.
    assert len(delivered) == 999 + 1
    (bounced,) = server.events("bounced")
    numbers = {row["number"] for row in delivered if row["recipient"] in arrived}
    assert numbers == set(range(1000)) - {bounced["number"]}


def test_content_of_a_message_to_many_is_kept_once(sink: Sink, serve: Serve) -> None:
    sink.down()
    server = serve(relaying(sink.via))
    _send(server, _recipients())
    reader = Reader(str(server.data_dir), 1 << 40)
    ((_, queued),) = reader.page(b"", 10)
    reader.close()
    assert queued is not None
    assert len(queued.parts) == 300
    assert sum(octets for _, octets in queued.message.extents) == queued.message.octets < 1000
    sink.up()
    server.wait_empty()
    assert sum(len(message.recipients) for message in sink.messages()) == 1000


def test_path_recipients_bounds_a_transaction(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via, path={"recipients": 7, "pause_s": 1}))
    recipients = [f"u{number}@one.test" for number in range(250)]
    _send(server, recipients)
    server.wait_empty()
    sizes = [len(message.recipients) for message in sink.messages()]
    # Parts of 100, 100 and 50.
    assert sorted(sizes, reverse=True) == [7] * (14 + 14 + 7) + [2, 2, 1]
    assert sorted(to for message in sink.messages() for to in message.recipients) == sorted(recipients)
    assert len(server.wait_events(250, "delivered")) == 250


def test_peer_that_takes_fewer_recipients_gets_the_rest_on_the_same_connection(sink: Sink, serve: Serve) -> None:
    sink.most_recipients(10)
    server = serve(relaying(sink.via, retry={"first_s": 600}))
    recipients = [f"u{number}@one.test" for number in range(35)]
    _send(server, recipients)
    server.wait_empty()
    assert [len(message.recipients) for message in sink.messages()] == [10, 10, 10, 5]
    assert {message.session for message in sink.messages()} == {1}
    assert {row["attempts"] for row in server.wait_events(35, "delivered")} == {1}
