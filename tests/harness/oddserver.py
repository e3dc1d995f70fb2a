"""A name server that says whatever a test wants: what no real one does. For everything else there is bench.nameserver.

    with OddServer(lambda query, is_tcp: [servfail(query)]) as server:

It answers each query, over UDP and TCP, with the datagrams (or messages) that its function returns: none at all, one,
or several. The function runs in a thread of the server's own; what was asked is in `asked`.
"""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import dns.message
import dns.rcode
import dns.rrset

__all__ = ["Asked", "OddServer", "answer", "error", "truncated"]

Script = Callable[[bytes, bool], Sequence[bytes]]


class Asked(NamedTuple):
    """One query: its id, the port it came from, name and kind, and by which way."""

    id: int
    port: int
    name: str
    kind: int
    is_tcp: bool


class OddServer:
    """Runs inside a `with`."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while True:
            self._tcp = socket.create_server(("127.0.0.1", 0))
            self.server: tuple[str, int] = ("127.0.0.1", self._tcp.getsockname()[1])
            with contextlib.suppress(OSError):
                self._udp.bind(self.server)
                break
            self._tcp.close()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._udp.close()
        self._tcp.close()

    @property
    def address(self) -> str:
        """ADDRESS:PORT, as `dns.nameservers` wants it."""
        return f"{self.server[0]}:{self.server[1]}"

    def _serve(self) -> None:
        while not self._ended.is_set():
            ready, _, _ = select.select([self._udp, self._tcp], [], [], 0.02)
            for sock in ready:
                with contextlib.suppress(OSError):
                    self._serve_tcp() if sock is self._tcp else self._serve_udp()

    def _serve_udp(self) -> None:
        query, peer = self._udp.recvfrom(65_535)
        for wire in self._answers(query, peer[1], False):
            self._udp.sendto(wire, peer)

    def _serve_tcp(self) -> None:
        client, peer = self._tcp.accept()
        with client:
            client.settimeout(5)
            (octets,) = struct.unpack(">H", client.recv(2, socket.MSG_WAITALL))
            for wire in self._answers(client.recv(octets, socket.MSG_WAITALL), peer[1], True):
                client.sendall(struct.pack(">H", len(wire)) + wire)

    def _answers(self, query: bytes, port: int, is_tcp: bool) -> Sequence[bytes]:
        message = dns.message.from_wire(query)
        question = message.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append(Asked(message.id, port, name, int(question.rdtype), is_tcp))
        return self.script(query, is_tcp)


def answer(query: bytes, *records: str) -> bytes:
    """Return an answer with these records, each written as in a zone: "name ttl IN MX 10 mx.name"."""
    response = dns.message.make_response(dns.message.from_wire(query))
    for record in records:
        name, ttl, _, kind, rdata = record.split(" ", 4)
        response.answer.append(dns.rrset.from_text(f"{name}.", int(ttl), "IN", kind, rdata))
    return response.to_wire(max_size=65_535)


def error(query: bytes, name: str = "SERVFAIL") -> bytes:
    """Return an answer with an error code and nothing else."""
    response = dns.message.make_response(dns.message.from_wire(query))
    response.set_rcode(dns.rcode.from_text(name))
    return response.to_wire()


def truncated(query: bytes) -> bytes:
    """Return an answer that says it was too long."""
    return query[:2] + bytes((query[2] | 0x82, query[3])) + query[4:12] + query[12:]
