"""The few errors that cross a room's door.

Rule: an ordinary refusal on the hot path is a returned Reply or Outcome, never one of these.
"""

__all__ = ["ConfigError", "LinkLost", "StartError"]


class ConfigError(Exception):
    """The configuration cannot be used.

    `problems` holds one line for each error: `FILE: key.path: expected X, got Y`.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StartError(Exception):
    """Something outside the configuration keeps the server from starting: one sentence for the operator."""


class LinkLost(Exception):
    """The other end of a link went away or broke the protocol; the text names the peer and the reason."""
