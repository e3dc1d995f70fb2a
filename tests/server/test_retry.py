"""What the next hop says decides: later, never, or nothing at all."""

from datetime import datetime

from bench.sink import Rule, Sink
from tests.harness import Ledger, relaying, run_async
from tests.server.conftest import Serve


def test_relay_4xx_is_tried_again_on_schedule(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    sink.rule(Rule(stage="rcpt", match="@sink.test", reply="451 4.2.0 Come back later", times=1))
    run_async(Ledger(server.address).send(1, 1))
    sink.wait_count(1)
    (deferred,) = server.wait_events(1, "deferred")
    (delivered,) = server.wait_events(1, "delivered")
    assert (deferred["code"], deferred["enhanced"], deferred["attempts"]) == (451, "4.2.0", 1)
    assert "Come back later" in deferred["diagnostic"]
    assert delivered["attempts"] == 2
    deferred_at, next_at, delivered_at = (
        datetime.fromisoformat(stamp) for stamp in (deferred["at"], deferred["next_at"], delivered["at"])
    )
    # retry.first_s is 1 and jitter a tenth of it; the event's own time may be a little later than the decision's.
    assert 0.8 <= (next_at - deferred_at).total_seconds() <= 1.15
    assert next_at <= delivered_at
    assert (delivered_at - next_at).total_seconds() < 2


def test_relay_next_hop_down_then_up_delivers_everything_once(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    sink.down()
    ledger = Ledger(server.address)
    run_async(ledger.send(20, 4))
    assert len(ledger.acknowledged) == 20
    assert server.n_queued() == 20
    sink.up()
    sink.wait_count(20)
    server.wait_empty()
    assert sorted(to for message in sink.messages() for to in message.recipients) == sorted(ledger.acknowledged)
    assert server.events("bounced", "expired") == []


def test_relay_connection_lost_before_the_answer_is_tried_again(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    sink.rule(Rule(stage="message", drop=True, times=3))
    ledger = Ledger(server.address)
    run_async(ledger.send(10, 2))
    sink.wait_count(10)
    server.wait_empty()
    assert {to for message in sink.messages() for to in message.recipients} == set(ledger.acknowledged)


def test_relay_5xx_bounces_with_the_words_of_the_peer(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    sink.rule(Rule(stage="rcpt", match="@sink.test", reply="550 5.1.1 Nobody by that name lives here"))
    ledger = Ledger(server.address)
    run_async(ledger.send(1, 1))
    (bounced,) = server.wait_events(1, "bounced")
    ((recipient, message_id),) = ledger.acknowledged.items()
    assert (bounced["id"], bounced["recipient"]) == (message_id, recipient)
    assert (bounced["code"], bounced["enhanced"]) == (550, "5.1.1")
    assert "Nobody by that name lives here" in bounced["diagnostic"]
    server.wait_empty()
