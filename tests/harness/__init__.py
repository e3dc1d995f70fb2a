"""What the process-level tests share: clients that keep a ledger, a system call trace, tools that may be missing."""

from tests.harness.corpus import awkward_mails
from tests.harness.kills import KILLS, kill_under_load
from tests.harness.ledger import Ledger
from tests.harness.peer import BODY, CLOSE, DEAF, HELLO, MAIL, RESET, SILENCE, C, Drip, Pause, Peer, Read, Step
from tests.harness.setup import relaying, require_tool, run_async
from tests.harness.spaces import as_first_process, read_by_all, read_by_root, require_root, without_writing
from tests.harness.trace import Call, Trace, parse

__all__ = [
    "BODY",
    "CLOSE",
    "DEAF",
    "HELLO",
    "KILLS",
    "MAIL",
    "RESET",
    "SILENCE",
    "C",
    "Call",
    "Drip",
    "Ledger",
    "Pause",
    "Peer",
    "Read",
    "Step",
    "Trace",
    "as_first_process",
    "awkward_mails",
    "kill_under_load",
    "parse",
    "read_by_all",
    "read_by_root",
    "relaying",
    "require_root",
    "require_tool",
    "run_async",
    "without_writing",
]
