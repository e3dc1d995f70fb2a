"""A private Exim that is told what to refuse: `bench.peers.Exim`, exchangeable with `harness.peers.PostfixPeer`."""

from collections.abc import Mapping

from bench.peers import Exim
from tests.harness.setup import require_tool

__all__ = ["EximPeer"]

MAIN = """\
bounce_return_body = false
message_size_limit = {octets}
acl_smtp_data = data
"""
ACL = r"""
# The test says in files what is refused: an address, and the reply; words of a Subject field, and the reply.
rcpt:
  warn set acl_m_said = ${{lookup{{$local_part@$domain}}lsearch{{{directory}/access}}}}
  deny condition = ${{if match{{$acl_m_said}}{{^5}}}}
       message = $acl_m_said
  defer condition = ${{if match{{$acl_m_said}}{{^4}}}}
       message = $acl_m_said
  accept
data:
  deny condition = ${{if match{{$h_subject:}}{{^forbidden}}}}
       message = 550 5.7.1 Nothing that is forbidden
  accept
"""


class EximPeer(Exim):
    """An Exim with the face of `PostfixPeer`."""

    hostname = "exim.example.test"

    def __init__(self, via: str, message_octets: int = 50_000_000) -> None:
        require_tool("exim4", "exim4-daemon-light (beside Postfix: make peers)")
        super().__init__(via, main=MAIN.format(octets=message_octets), acl=ACL)
        self.access({})

    def access(self, replies: Mapping[str, str]) -> None:
        """Answer RCPT for these addresses with these replies, from the next connection on."""
        rows = "".join(f"{address}: {reply}\n" for address, reply in replies.items())
        (self.directory / "access").write_text(rows, encoding="utf-8")
