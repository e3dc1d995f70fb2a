"""Look into the header section of a message; the contract is headers.pyi."""

from cpython.bytes cimport PyBytes_GET_SIZE
from libc.string cimport memchr

cdef enum:
    NAME_OCTETS = 8

cdef const unsigned char* NAME = b"received"


cdef inline Py_ssize_t line_end(const unsigned char* octets, Py_ssize_t at, Py_ssize_t size) noexcept:
    """Return the index just behind the LF of the line at `at`, or `size`; `at` itself if that line is empty."""
    cdef const unsigned char* line_feed
    # RFC 5322 s2.1: the header section ends at the first empty line.
    if octets[at] == c'\n' or (octets[at] == c'\r' and at + 1 < size and octets[at + 1] == c'\n'):
        return at
    line_feed = <const unsigned char*> memchr(octets + at, c'\n', <size_t> (size - at))
    return size if line_feed == NULL else line_feed - octets + 1


cdef inline bint is_received(const unsigned char* line, Py_ssize_t size) noexcept:
    cdef Py_ssize_t at
    if size <= NAME_OCTETS:
        return False
    for at in range(NAME_OCTETS):
        # NAME is letters only, so that nothing but their upper case is folded into them. strncasecmp asks the locale.
        if line[at] | 0x20 != NAME[at]:
            return False
    at = NAME_OCTETS
    # RFC 5322 s4.5: old mail may have blanks before the colon.
    while at < size and (line[at] == c' ' or line[at] == c'\t'):
        at += 1
    return at < size and line[at] == c':'


def count_received(bytes body not None, /):
    cdef const unsigned char* octets = body
    cdef Py_ssize_t size = PyBytes_GET_SIZE(body)
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t after
    cdef Py_ssize_t n_received = 0
    while at < size:
        after = line_end(octets, at, size)
        if after == at:
            break
        if is_received(octets + at, after - at):
            n_received += 1
        at = after
    return n_received


def has_8bit_header(bytes body not None, /):
    cdef const unsigned char* octets = body
    cdef Py_ssize_t size = PyBytes_GET_SIZE(body)
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t after, i
    cdef unsigned char seen = 0
    while at < size:
        after = line_end(octets, at, size)
        if after == at:
            break
        for i in range(at, after):
            seen |= octets[i]
        if seen & 0x80:
            return True
        at = after
    return False
