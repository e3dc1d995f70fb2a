"""Find the end of a command line. RFC 5321 s2.3.8."""

def find_line(data: bytes, start: int, /) -> int:
    """Return the index just behind the first LF at or after `start`, or -1 when there is none.

    Whether that LF follows a CR, and whether the line holds a stray CR or LF, is for `split_command` to say.
    `start` must be in 0..len(data), otherwise IndexError.
    """
