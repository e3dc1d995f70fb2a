"""What is told of one client's connection: what was refused, and how it ended.

Rule: these events are notes. Nobody waits for them, and past a rate they are counted instead of kept (`mta.link`).
"""

from mta.accept.envelope import Origin
from mta.accept.shared import Shared
from mta.message import now_ms
from mta.reply import Reply
from mta.report import ConnectionClosed, Rejected
from mta.report import encode as encode_event
from mta.smtp import Refused, Session

__all__ = ["Record"]


class Record:
    """Made by the connection once it knows where its client is."""

    __slots__ = ("_began_at", "_origin", "_session", "_shared")

    def __init__(self, shared: Shared, origin: Origin, session: Session) -> None:
        self._shared = shared
        self._origin = origin
        self._session = session
        self._began_at = shared.time()

    def reject(self, stage: str, reply: Reply, recipient: str = "", *, sender: str = "", helo: str = "") -> None:
        """Tell that something was refused; `sender` and `helo` where they are what was."""
        accepted = self._session.sender
        self._shared.note(
            encode_event(
                Rejected(
                    now_ms(),
                    b"",
                    self._origin.tenant,
                    self._origin.client,
                    helo or self._session.helo,
                    stage,
                    accepted.text if accepted is not None else sender,
                    recipient,
                    reply.code,
                    reply.enhanced,
                    f"{reply.text}: {reply.why}" if reply.why else reply.text,
                )
            )
        )

    def refused(self, event: Refused) -> None:
        """Tell what the session refused by itself."""
        if event.stage == "mail":
            self.reject(event.stage, event.reply, sender=_path(event.argument))
        elif event.stage == "rcpt":
            self.reject(event.stage, event.reply, _path(event.argument))
        else:
            self.reject(event.stage, event.reply, helo=event.argument if event.stage == "helo" else "")

    def closed(self, reason: str) -> None:
        """Tell how it ended."""
        session = self._session
        self._shared.note(
            encode_event(
                ConnectionClosed(
                    now_ms(),
                    b"",
                    self._origin.tenant,
                    self._origin.client,
                    session.helo,
                    self._origin.listener,
                    session.n_messages,
                    session.n_errors,
                    round(self._shared.time() - self._began_at, 3),
                    reason,
                )
            )
        )


def _path(argument: str) -> str:
    """Return what stands between the angle brackets of a MAIL or RCPT argument that was refused, or all of it."""
    path = argument.partition(":")[2].strip() or argument
    return path.partition(">")[0].removeprefix("<")
