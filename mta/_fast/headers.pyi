"""Look into the header section of a message: everything before the first empty line. RFC 5322 s2.1.

A line ends at LF here, with or without CR before it.
"""

def count_received(body: bytes, /) -> int:
    """Return how many header fields are named Received, whatever their case. RFC 5321 s6.3."""

def has_8bit_header(body: bytes, /) -> bool:
    """Return whether an octet >= 0x80 stands in the header section. RFC 6532."""
