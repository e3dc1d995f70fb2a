"""A queue that is full refuses new mail, keeps what it has, and takes mail again when there is room."""

from bench.client import Client
from bench.sink import Rule, Sink
from tests.harness import relaying, run_async
from tests.server.conftest import Serve

# Large enough to fill the map in a moment, small enough that the last one leaves no slack.
BODY = b"Subject: full\r\n\r\n" + b"x" * 76 + b"\r\n"
MAIL = BODY + (b"y" * 76 + b"\r\n") * 2500
MOST = 200


def test_map_full_refuses_mail_drains_and_serves_again(sink: Sink, serve: Serve) -> None:
    sink.down()
    server = serve(relaying(sink.via, queue={"map_octets": 16_777_216}, retry={"first_s": 2}))
    before = server.children()
    accepted: list[str] = []

    async def fill() -> None:
        client = Client(*server.address)
        await client.connect()
        for number in range(MOST):
            recipient = f"m{number:06d}@sink.test"
            answer = await client.send("a@source.test", [recipient], MAIL)
            if answer.code != 250:
                assert (answer.code, answer.enhanced) == (452, "4.3.1")
                break
            accepted.append(recipient)
        await client.close()

    run_async(fill())
    assert 10 < len(accepted) < MOST
    sink.up()
    server.wait_empty()
    arrived = [to for message in sink.messages() for to in message.recipients]
    assert sorted(arrived) == accepted
    filled = len(accepted)
    run_async(fill())
    assert len(accepted) > filled
    server.wait_empty()
    # Nobody had to die for it.
    assert server.children() == before


def test_map_filled_by_recipients_refuses_mail_and_lets_an_operator_empty_it(sink: Sink, serve: Serve) -> None:
    """A recipient takes more room than the content of a short mail: what 100 of them a mail leave behind is counted."""
    sink.rule(Rule(stage="rcpt", reply="451 4.2.0 Later, and in so many words that they take some room themselves"))
    server = serve(relaying(sink.via, queue={"map_octets": 16_777_216}, retry={"first_s": 600}))
    before = server.children()

    async def fill() -> int:
        client = Client(*server.address)
        await client.connect()
        for number in range(2000):
            to = [f"u{number}x{n}@sink.test" for n in range(100)]
            # One command at a time: recipients sent behind a refused MAIL would count as errors.
            answer = await client.send("a@source.test", to, BODY, pipelined=False)
            if answer.code != 250:
                assert (answer.code, answer.enhanced) == (452, "4.3.1")
                await client.close()
                return number
        raise AssertionError("the map was never full")

    n_taken = run_async(fill())
    assert n_taken > 50
    server.wait_events(1, "storage_low")
    assert server.run("queue", "remove", "--all").returncode == 0
    server.wait_empty()
    server.wait_events(1, "storage_ok")
    assert run_async(fill()) > 50
    assert server.children() == before
