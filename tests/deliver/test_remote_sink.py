"""Remote delivery to smtp-sink, which speaks SMTP as Postfix does and fails where it is told to."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvloop

from mta.deliver import Job
from mta.message import Hosts, Outcome
from mta.smtp import POSSIBLE_REPEAT
from tests.deliver.test_remote import job, run
from tests.harness import require_tool


@contextmanager
def sink(*options: str) -> Iterator[Hosts]:
    """Run smtp-sink; yields where it listens."""
    program = require_tool("smtp-sink", "postfix")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    # As root it insists on another user.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    with subprocess.Popen([program, *user, *options, f"127.0.0.1:{port}", "20"]) as process:
        try:
            for _ in range(200):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.01)
            yield (("127.0.0.1", port),)
        finally:
            process.terminate()


def deliver(hosts: Hosts, jobs: list[Job]) -> dict[tuple[str, int, str], int]:
    """Return how many recipients had which status, code and reason; all jobs must have been reported as done."""
    counts: dict[tuple[str, int, str], int] = {}

    async def main() -> None:
        ledger = await run(hosts, jobs)
        assert ledger.left == []
        assert len(ledger.fates) == len(jobs)
        for outcomes in ledger.fates.values():
            for _, outcome in outcomes:
                key = (outcome.status, outcome.code, outcome.reason)
                counts[key] = counts.get(key, 0) + 1

    uvloop.run(main())
    return counts


@pytest.mark.parametrize("options", [(), ("-p",), ("-e",), ("-8",)], ids=["pipelining", "plain", "helo", "no8bitmime"])
def test_remote_courier_sink_takes_every_mail(options: tuple[str, ...]) -> None:
    body = b"Subject: x\r\n\r\n" + b"....\r\n.\r\n" * 400
    with sink(*options) as hosts:
        assert deliver(hosts, [job(n, body, n_recipients=1 + n % 3) for n in range(100)]) == {
            ("delivered", 250, "accepted"): 199
        }


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize(("option", "status", "code"), [("-r", "deferred", 450), ("-f", "bounced", 500)])
def test_remote_courier_sink_refuses_a_command(command: str, option: str, status: str, code: int) -> None:
    reason = "refused at " + command.replace(".", "the end of data")
    with sink(option, command) as hosts:
        assert deliver(hosts, [job(n) for n in range(5)]) == {(status, code, reason): 5}


def failure(hosts: Hosts, jobs: list[Job]) -> tuple[str, int, str]:
    """Return how the host failed; all jobs must have been left over."""
    failures: list[Outcome] = []

    async def main() -> None:
        ledger = await run(hosts, jobs)
        assert ledger.fates == {}
        assert ledger.left == [job.part for job in jobs]
        failures.extend([ledger.failure] if ledger.failure is not None else [])

    uvloop.run(main())
    (told,) = failures
    return told.status, told.code, told.reason


@pytest.mark.parametrize("option", ["-r", "-f"])
def test_remote_courier_sink_refuses_the_connection_is_the_hosts_failure(option: str) -> None:
    with sink(option, "CONNECT") as hosts:
        status, _, reason = failure(hosts, [job(n) for n in range(3)])
    assert (status, reason) == ("deferred", "refused at the greeting")


@pytest.mark.parametrize(("command", "doing"), [("CONNECT", "waiting for the greeting"), ("EHLO", "sending EHLO")])
def test_remote_courier_sink_hangs_up_before_it_takes_mail_is_the_hosts_failure(command: str, doing: str) -> None:
    with sink("-q", command) as hosts:
        told = failure(hosts, [job()])
    assert told == ("deferred", 451, f"lost connection with [127.0.0.1] while {doing}")


@pytest.mark.parametrize("command", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
def test_remote_courier_sink_says_421_is_the_hosts_failure(command: str) -> None:
    with sink("-Q", command) as hosts:
        assert failure(hosts, [job(0), job(1)]) == ("deferred", 421, "the peer ended the session")


@pytest.mark.parametrize(
    ("command", "doing"),
    [
        ("MAIL", "sending MAIL"),
        ("RCPT", "sending RCPT"),
        ("DATA", "sending DATA"),
        (".", "sending the end of data"),
    ],
)
def test_remote_courier_sink_hangs_up_defers(command: str, doing: str) -> None:
    with sink("-q", command) as hosts:
        ((status, code, reason),) = deliver(hosts, [job()])
    repeat = POSSIBLE_REPEAT if command == "." else ""
    assert (status, code, reason) == ("deferred", 451, f"{repeat}lost connection with [127.0.0.1] while {doing}")


def test_remote_courier_sink_says_421_after_the_data_defers() -> None:
    with sink("-Q", ".") as hosts:
        assert deliver(hosts, [job()]) == {("deferred", 421, "the peer ended the session"): 1}


def test_remote_courier_sink_without_8bitmime_bounces_only_8bit_mail() -> None:
    with sink("-8") as hosts:
        assert deliver(hosts, [job(0), job(1, has_8bit=True), job(2)]) == {
            ("delivered", 250, "accepted"): 2,
            ("bounced", 554, "[127.0.0.1] does not take 8-bit mail"): 1,
        }
