"""Sockets in: clients' connections, and what becomes of what they send."""

from mta.accept.service import Service

__all__ = ["Service"]
