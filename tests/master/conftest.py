"""What all tests of the master start with."""

from tests.master.test_master import start

__all__ = ["start"]
