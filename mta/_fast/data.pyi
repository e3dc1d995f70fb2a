"""The DATA stream in both directions. RFC 5321 s4.5.2."""

VECTOR_PATHS: tuple[str, ...]
"""The scan paths this machine can run, the fastest first; the last is always "portable"."""

class DotReader:
    """Un-stuff the body of DATA and find its end. RFC 5321 s4.5.2.

    feed() takes one network read and may be cut anywhere, even inside CRLF "." CRLF.
    Never raises on content: a bare CR or LF is remembered in `bare_line_end`, and reading goes on to the
    true end, because stopping early would turn the rest of the mail into commands (smuggling).
    """

    octets: int
    """Un-stuffed body octets so far, CRLFs counted."""
    bare_line_end: bool
    """A CR without LF or a LF without CR was seen; one at the end of a read is judged with the next octet."""
    has_8bit: bool
    """An octet >= 0x80 was seen."""
    longest_line: int
    """Octets of the longest line so far, un-stuffed, its CRLF not counted; an unfinished line counts as it stands.

    For this count alone a bare LF ends a line too, as it will once the body is normalized; a bare CR is an octet of its
    line. A CR at the very end is not counted yet.
    """
    done: bool
    """The end was found; whatever feed() left unused is the next command."""

    def __init__(self, path: str = "") -> None:
        """Choose a scan path of VECTOR_PATHS; "" takes the fastest. ValueError for one this machine cannot run."""

    def feed(self, data: bytes, start: int = 0, /) -> tuple[bytes, int]:
        """Read `data` from `start` on; return (un-stuffed body octets, index in `data` where reading stopped).

        The index is len(data) unless the end was found. The final CRLF of the last body line belongs to the body; the
        dot line does not. A dot, or a dot and CR, that may be the beginning of the end is withheld until the next octet
        decides. Returns `data` itself where nothing had to be cut. RuntimeError when called after `done`, IndexError
        when `start` is not in 0..len(data).
        """

class DotStuffer:
    """Prepare a body for DATA: double each dot that begins a line, close with the dot line.

    The body may come in pieces, cut anywhere. Its line ends must already be CRLF; a bare LF starts no line here, as in
    DotReader, so that nothing we send can end early at a peer that is as strict as we are.
    """

    def feed(self, data: bytes, /) -> bytes:
        """Return the stuffed form of the next piece; `data` itself where nothing had to be added."""

    def end(self) -> bytes:
        """Return what closes the body: b".\\r\\n", with a CRLF before it when the body did not end in one."""

def normalize(body: bytes, /) -> bytes:
    """Return the whole `body` with each bare LF made a CRLF and each bare CR a space; `body` itself if there are none.

    The result holds CR and LF only as CRLF pairs.
    """
