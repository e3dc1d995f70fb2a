"""aiosmtpd as the floor: what an asyncio server in Python costs that only receives, and throws away what it gets.

Stock, as its own command line starts it: one process, asyncio's own event loop. (`pip install aiosmtpd`)
"""

import sys
from importlib.metadata import PackageNotFoundError, version

from bench.peers.peer import Peer, PeerMissing

__all__ = ["Aiosmtpd"]

SINK = "aiosmtpd.handlers.Sink"


class Aiosmtpd(Peer):
    """One instance."""

    name = "aiosmtpd"
    label = "nothing: it throws mail away"
    is_relaying = False

    @classmethod
    def require(cls) -> str:
        """Return the version that is installed. Raises PeerMissing."""
        try:
            return version("aiosmtpd")
        except PackageNotFoundError as error:
            raise PeerMissing(f"there is no aiosmtpd: {sys.executable} -m pip install aiosmtpd") from error

    def _launch(self) -> None:
        listening = f"{self.address[0]}:{self.address[1]}"
        self._spawn([sys.executable, "-m", "aiosmtpd", "-n", "-s", "134217728", "-l", listening, "-c", SINK])

    def n_queued(self) -> int:
        """Return 0: it keeps nothing."""
        return 0
