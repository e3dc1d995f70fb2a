"""A private authoritative name server: nsd on a loopback port, with the zones it is given.

    with Nameserver({"a.test": "@ MX 10 mx1\\nmx1 A 127.0.0.2"}) as nameserver:
        config = {"dns": {"nameservers": [nameserver.address]}}

What is written for a zone are its records, relative to it, one a line; SOA and NS, a TTL and a serial number are added.
It knows nothing of other zones, and answers REFUSED. nsd comes from Debian: `apt-get install nsd`.
Used by the benchmarks, and by the tests.
"""

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.program import Program
from bench.wait import wait_until

__all__ = ["Nameserver", "NsdMissing"]

START_S = 20.0
ASK_S = 1.0
SEARCH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
SERVER = """server:
  ip-address: {ip}@{port}
  username: ""
  chroot: ""
  zonesdir: "{directory}"
  database: ""
  pidfile: "{directory}/nsd.pid"
  xfrdfile: "{directory}/xfrd.state"
  xfrdir: "{directory}"
  zonelistfile: "{directory}/zone.list"
  logfile: "{directory}/log"
  server-count: 1
  tcp-count: 100
  rrl-ratelimit: 0
  round-robin: {rotates}
remote-control:
  control-enable: no
"""
ZONE = """zone:
  name: "{name}"
  zonefile: "{name}.zone"
"""
HEAD = """$ORIGIN {name}.
$TTL {ttl_s}
@ SOA ns.invalid. hostmaster.invalid. {serial} 3600 600 86400 {ttl_s}
@ NS ns.invalid.
"""


class NsdMissing(Exception):
    """There is no nsd on this machine."""


class Nameserver(Program):
    """One nsd and its directory; it runs inside a `with`."""

    def __init__(
        self,
        zones: Mapping[str, str],
        ttl_s: int = 60,
        ip: str = "127.0.0.1",
        *,
        broken: Iterable[str] = (),
        rotates: bool = False,
    ) -> None:
        """`ttl_s` is the time to live of every record that does not say another, and of what is not there.

        Zones in `broken` are ones that it should serve and cannot: SERVFAIL. One that `rotates` gives the records of
        one name and type in another order each time.
        """
        program = shutil.which("nsd", path=SEARCH)
        if program is None:
            raise NsdMissing("there is no nsd on this machine: apt-get install nsd")
        self._program = program
        self._zones = dict(zones)
        self._broken = tuple(broken)
        self._rotates = "yes" if rotates else "no"
        self._ttl_s = ttl_s
        self._serial = 0
        self._ip = ip
        self._port = _free_port(ip)
        self._directory = Path(tempfile.mkdtemp(prefix="nsd-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """ADDRESS:PORT, as `dns.nameservers` wants it."""
        return f"[{self._ip}]:{self._port}" if ":" in self._ip else f"{self._ip}:{self._port}"

    @property
    def server(self) -> tuple[str, int]:
        """The same as a pair."""
        return self._ip, self._port

    def start(self) -> None:
        """Start it, on the port that it had, and wait until it answers. Raises TimeoutError."""
        self._write()
        config = SERVER.format(ip=self._ip, port=self._port, directory=self._directory, rotates=self._rotates)
        config += "".join(ZONE.format(name=name) for name in (*self._zones, *self._broken))
        (self._directory / "nsd.conf").write_text(config, encoding="utf-8")
        command = [self._program, "-d", "-c", str(self._directory / "nsd.conf")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._wait_for_serial()
        except TimeoutError as error:
            log = self._directory / "log"
            raise TimeoutError(f"{error}\n{log.read_text() if log.exists() else 'it wrote no log'}") from error

    def stop(self) -> None:
        """End it; its port is closed then, and stays ours for the next start."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it for good."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def change(self, zones: Mapping[str, str]) -> None:
        """Put other records into zones that it has, and wait until it answers with them."""
        unknown = zones.keys() - self._zones.keys()
        if unknown or self._process is None:
            raise ValueError(f"a zone cannot come while it runs, nor change while it does not: {unknown}")
        self._zones.update(zones)
        self._write()
        self._process.send_signal(signal.SIGHUP)
        self._wait_for_serial()

    def _write(self) -> None:
        self._serial += 1
        for name, records in self._zones.items():
            head = HEAD.format(name=name, ttl_s=self._ttl_s, serial=self._serial)
            path = self._directory / f"{name}.zone"
            path.write_text(head + records + "\n", encoding="utf-8")
            # nsd reads again what is younger, by the second: two changes in one would be one to it.
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime + self._serial))

    def _wait_for_serial(self) -> None:
        zones = list(self._zones)
        wait_until(lambda: all(self._serial_of(zone) == self._serial for zone in zones), "nsd with its zones", START_S)

    def _serial_of(self, zone: str) -> int:
        """Return the serial number that it answers for a zone; 0 for none."""
        name = b"".join(bytes((len(label),)) + label.encode() for label in zone.split(".")) + b"\0"
        query = struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 0) + name + struct.pack(">HH", 6, 1)
        with socket.socket(socket.AF_INET6 if ":" in self._ip else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(ASK_S)
            with contextlib.suppress(OSError):
                sock.connect(self.server)
                sock.send(query)
                wire = sock.recv(4096)
                # The five numbers of a SOA end its record, and nothing but NS records of our own may follow it.
                tail = wire.find(struct.pack(">IIII", 3600, 600, 86_400, self._ttl_s))
                if tail >= 4:
                    return int.from_bytes(wire[tail - 4 : tail], "big")
        return 0


def _free_port(ip: str) -> int:
    """Return a port that is free for UDP and TCP."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    while True:
        with socket.create_server((ip, 0), family=family) as tcp, socket.socket(family, socket.SOCK_DGRAM) as udp:
            port: int = tcp.getsockname()[1]
            with contextlib.suppress(OSError):
                udp.bind((ip, port))
                return port
