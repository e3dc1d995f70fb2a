"""Cut a byte stream into frames: u32 length (little endian, of what follows), u8 kind, payload."""

class FrameReader:
    """Collect network reads, cut anywhere, into whole frames."""

    n_buffered: int
    """Octets held of a frame that is not complete."""

    def __init__(self, max_octets: int) -> None:
        """Refuse frames whose length field exceeds `max_octets`."""

    def feed(self, data: bytes | memoryview, /) -> list[tuple[int, bytes]]:
        """Return the frames that became complete, oldest first, as (kind, payload).

        Nothing of `data` is kept. Raises ValueError for a frame that is empty or longer than `max_octets`; after that
        the reader is of no use.
        """
