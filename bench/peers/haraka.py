"""A private Haraka, of npm (`sh bench/peers/haraka.sh`, which `make peers` runs where npm is).

Mail goes through its outbound queue on the disk: `haraka.js` lets everybody relay, which is what leads there, and says
for every domain that the next hop is its mail exchanger. Its plugins queue/smtp_forward and smtp_proxy are not used:
they would hand mail on while the client waits, and keep none.

Tuned: a process for each core (the one that governs them comes on top), 100 deliveries at once in each.
Logs at level notice: one line for what was delivered.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from bench.peers.peer import BESIDE, Peer, PeerMissing, find_program

__all__ = ["Haraka"]

INSTALL = "sh bench/peers/haraka.sh"
FOLDER = BESIDE / "haraka"
PACKAGE = FOLDER / "node_modules" / "Haraka"
PLUGIN = Path(__file__).with_name("haraka.js")
OLDEST_NODE = 20
CONFIG = {
    "me": "haraka.example.test\n",
    "plugins": "next_hop\n",
    "smtp.ini": "listen=127.0.0.1:{port}\n{nodes}\n",
    "log.ini": "[main]\nlevel=notice\nformat=default\n",
    "outbound.ini": "concurrency_max=100\nenable_tls=false\nnext_host={host}\nnext_port={hop}\n",
}


class Haraka(Peer):
    """One instance."""

    name = "haraka"
    label = "one fsync a message and domain, before its file gets its name"

    def __init__(self, via: str, *, cores: frozenset[int] | None = None, directory: str | None = None) -> None:
        """See `Peer`."""
        super().__init__(via, cores=cores, directory=directory)
        host, hop = re.findall(r"\[(.+)\]:(\d+)$", via)[0]
        # As `haraka -i` makes a new instance: a copy of what is shipped, then what is ours.
        shutil.copytree(PACKAGE / "config", self.directory / "config")
        for folder in ("plugins", "queue"):
            (self.directory / folder).mkdir()
        shutil.copy(PLUGIN, self.directory / "plugins" / "next_hop.js")
        n_cores = len(os.sched_getaffinity(0) if cores is None else cores)
        nodes = f"nodes={n_cores}" if n_cores > 1 else ""
        for name, text in CONFIG.items():
            lines = text.format(port=self.address[1], nodes=nodes, host=host, hop=hop)
            (self.directory / "config" / name).write_text(lines, encoding="ascii")

    @classmethod
    def require(cls) -> str:
        """Return the version that is installed. Raises PeerMissing."""
        line = f"{INSTALL} (Node.js {OLDEST_NODE} or later, with npm)"
        node = find_program("node", line)
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
        if int(said.removeprefix("v").split(".")[0]) < OLDEST_NODE:
            raise PeerMissing(f"Node.js {said.strip()} is too old for Haraka: {line}")
        version = FOLDER / "version"
        if not version.exists():
            raise PeerMissing(f"there is no Haraka in {FOLDER}: {line}")
        return version.read_text(encoding="ascii").strip()

    def _launch(self) -> None:
        self._spawn([find_program("node", INSTALL), PACKAGE / "bin" / "haraka", "-c", self.directory])

    def n_queued(self) -> int:
        """Return the number of messages in its queue: a file for each of its domains."""
        return sum(not name.startswith(".") for name in os.listdir(self.directory / "queue"))
