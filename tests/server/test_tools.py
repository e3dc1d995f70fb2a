"""The tools that judge the server are judged here themselves; none of this needs a server."""

import asyncio
import email.utils
import os
import tomllib
from pathlib import Path

import pytest

from bench.client import Client, stuff
from bench.corpus import normalized, prepare, read_mails
from bench.cpu import children_of, tree_cpu_s
from bench.roundtrip import compare
from bench.sink import Rule, Sink
from bench.tomltext import to_toml
from tests.harness import awkward_mails, parse, run_async

ID = "0123456789abcdef0123456789abcdef"


def test_to_toml_nested_tables_read_back_the_same() -> None:
    config = {
        "hostname": 'mx "1"\\\n',
        "listener": [{"name": "mx", "bind": ["127.0.0.1:0", "[::1]:0"]}, {"name": "ü", "bind": []}],
        "relay": {"networks": []},
        "retry": {"first_s": 1, "jitter": 0.5, "on": True},
    }
    assert tomllib.loads(to_toml(config)) == config


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        # Only a dot behind CRLF, or at the very beginning, begins a line.
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\n.\r\n", b"a\n.\r\n.\r\n"),
        (b"a\r\n.\r\n..b\r\n", b"a\r\n..\r\n...b\r\n.\r\n"),
    ],
)
def test_stuff_doubles_the_dots_that_begin_lines(content: bytes, wire: bytes) -> None:
    assert stuff(content) == wire


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        (b"", b""),
        (b"a\nb", b"a\r\nb\r\n"),
        (b"a\r\nb\n\n", b"a\r\nb\r\n\r\n"),
        (b"From x y\nA: b\n", b"A: b\r\n"),
        (b"From: x\n", b"From: x\r\n"),
        # A bare CR is the mail's own business.
        (b"a\rb\r\r\nc\r", b"a\rb\r\r\nc\r\r\n"),
    ],
)
def test_prepare_changes_line_ends_and_nothing_else(stored: bytes, sent: bytes) -> None:
    assert prepare(stored) == sent


def test_normalized_pairs_stay_and_loners_change() -> None:
    assert normalized(b"a\r\nb\nc\rd\r\r\ne\n\rf\r") == b"a\r\nb\r\nc d \r\ne\r\n f "


def test_read_mails_eml_files_hide_their_twins(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("2", "1"):
        (tmp_path / "in" / name).write_bytes(name.encode())
    (tmp_path / "README").write_bytes(b"no mail")
    assert read_mails(tmp_path) == [b"1", b"2"]
    (tmp_path / "in" / "3.eml").write_bytes(b"3")
    assert read_mails(tmp_path) == [b"3"]


def test_sink_keeps_awkward_mails_octet_by_octet(sink: Sink) -> None:
    mails = [prepare(mail) for mail in awkward_mails().values()]
    wanted = [mail for mail in mails for _ in (True, False)]

    async def scenario() -> None:
        client = Client("127.0.0.1", sink.port)
        await client.connect()
        for mail in mails:
            for pipelined in (True, False):
                answer = await client.send("a@b.test", ["c@d.test"], mail, params="BODY=8BITMIME", pipelined=pipelined)
                assert answer.code == 250
        await client.close()

    run_async(scenario())
    assert [message.content for message in sink.messages()] == wanted


def test_sink_rules_refuse_drop_and_run_out(sink: Sink) -> None:
    async def scenario() -> None:
        client = Client("127.0.0.1", sink.port)
        await client.connect()
        sent = [("a@x.test", 451), ("a@y.test", 250), ("a@x.test", 250), ("a@X.test", 250)]
        codes = [(await client.send("s@s.test", [to], b"x\r\n")).code for to, _ in sent]
        assert codes == [code for _, code in sent]
        sink.rule(Rule(stage="message", drop=True))
        with pytest.raises((EOFError, OSError)):
            await client.send("s@s.test", ["a@x.test"], b"x\r\n")
        await client.close(quits=False)

    sink.rule(Rule(stage="rcpt", match="@x.test", reply="451 4.2.0 Later", times=1))
    run_async(scenario())
    assert sink.count() == 3


def test_sink_delay_ends_when_the_rules_change(sink: Sink) -> None:
    async def scenario() -> None:
        sink.rule(Rule(stage="connect", delay_s=60))
        client = Client("127.0.0.1", sink.port)
        connecting = asyncio.create_task(client.connect())
        await asyncio.sleep(0.1)
        assert not connecting.done()
        sink.rule()
        await connecting
        await client.close()

    run_async(scenario(), 10)


def test_sink_down_refuses_and_up_returns_on_the_same_port(sink: Sink) -> None:
    port = sink.port
    sink.down()
    with pytest.raises(ConnectionRefusedError):
        run_async(Client("127.0.0.1", port).connect())
    assert sink.up() == port


def test_sink_directory_holds_content_and_envelope(tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        client = Client("127.0.0.1", port)
        await client.connect()
        await client.send("a@b.test", ["c@d.test"], b".x\r\n")
        await client.close()

    with Sink(directory=str(tmp_path)) as sink:
        run_async(scenario(sink.port))
        assert sink.count() == 1
    assert (tmp_path / "0000001.eml").read_bytes() == b".x\r\n"
    assert b'"recipients":["c@d.test"]' in (tmp_path / "0000001.json").read_bytes()


RECEIVED = (
    b"Received: from client.example.test ([127.0.0.1])\r\n\tby mx.example.test with ESMTP id " + ID.encode() + b"\r\n"
    b"\tfor <m000001@corpus.test>; DATE\r\n"
)


@pytest.mark.parametrize(
    ("top", "is_equal"),
    [
        (RECEIVED, True),
        # Nothing on top, a field too many, another's id, a line that is not folded, an empty line.
        (b"", False),
        (RECEIVED + RECEIVED, False),
        (RECEIVED + b"X-Other: field\r\n", False),
        (RECEIVED.replace(b"0123", b"3210"), False),
        (RECEIVED.replace(b"\r\n\tby", b"\r\nby"), False),
        (RECEIVED + b"\r\n", False),
        (RECEIVED.replace(b"; ", b" "), False),
    ],
)
def test_compare_wants_exactly_one_received(top: bytes, is_equal: bool) -> None:
    sent = b" begins with a blank\r\n\r\nbody\r\n"
    dated = top.replace(b"DATE", email.utils.formatdate(localtime=True).encode())
    assert compare(dated + sent, sent, ID) is is_equal


def test_parse_puts_unfinished_calls_together() -> None:
    trace = [
        r"10 read(3,  <unfinished ...>",
        r'11 write(4, "\x41\x42", 2) = 2',
        r'10 <... read resumed>"\x43\x44", 100) = 2',
        r"12 +++ exited with 0 +++",
        r"10 fdatasync(5)                      = 0",
        r'10 writev(6, [{iov_base="\x45", iov_len=1}, {iov_base="\x46", iov_len=1}], 2) = 2',
        r"10 read(3, 0x7f00, 10) = -1 EAGAIN (Resource temporarily unavailable)",
    ]
    calls = parse(trace)
    assert [(call.pid, call.name, call.fd, call.data, call.result) for call in calls] == [
        (11, "write", 4, b"AB", 2),
        (10, "read", 3, b"CD", 2),
        (10, "fdatasync", 5, b"", 0),
        (10, "writev", 6, b"EF", 2),
        (10, "read", 3, b"", -1),
    ]
    assert [(call.began, call.ended) for call in calls[:2]] == [(1, 1), (0, 2)]


def test_tree_cpu_s_counts_children() -> None:
    with Sink() as sink:
        assert sink.count() == 0
        assert children_of(os.getpid())
        assert tree_cpu_s(os.getpid()) > 0
