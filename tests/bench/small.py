"""Small pieces of work that are counted by tests: each runs in a process of its own, under valgrind."""

from bench.work.session import SessionWork

__all__ = ["More", "Wrong"]


class More(SessionWork):
    """A fifth more than there is to do."""

    def run(self, n_messages: int) -> None:
        """Serve some connections for nothing."""
        super().run(n_messages + n_messages // 5)


class Wrong(SessionWork):
    """Something else comes of it."""

    def run(self, n_messages: int) -> None:
        """See that it went wrong."""
        raise RuntimeError("the session took no message")
