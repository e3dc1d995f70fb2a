"""A worker process: SMTP in, SMTP out."""

from mta.worker.main import main

__all__ = ["main"]
