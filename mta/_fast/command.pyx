"""Split a command line into verb and argument; the contract is command.pyi.

No verb is longer than 8 octets, so that a verb is one 64-bit number, and finding it compares numbers.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memchr

cdef enum:
    N_VERBS = 24
    VERB_OCTETS = 8

cpdef enum:
    # Past the end of VERBS, so that a mistaken VERBS[code] fails instead of naming another verb.
    UNKNOWN = 100
    BAD_LINE = 101

with cython.warn.undeclared(False):
    VERBS = (
        # Those we offer; looked for first, in this order.
        "EHLO", "HELO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "VRFY", "HELP", "QUIT",
        # Those we know well enough to say that we do not offer them.
        "EXPN", "ETRN", "STARTTLS", "AUTH", "BDAT", "TURN", "SEND", "SOML", "SAML", "LHLO", "BURL", "ATRN", "XCLIENT",
        "XFORWARD",
    )

cdef uint64_t[N_VERBS] NUMBERS


cdef uint64_t number(const unsigned char* octets, Py_ssize_t size) noexcept:
    """Pack at most 8 octets into a number, letters made upper case; the octet 0 never occurs in a line."""
    cdef uint64_t packed = 0
    cdef Py_ssize_t i
    cdef unsigned char octet
    for i in range(size):
        octet = octets[i]
        # Only letters have a case: folding by bit alone would make other octets equal too.
        if c'a' <= octet <= c'z':
            octet -= 32
        packed = packed << 8 | octet
    return packed


cdef int fill_numbers() except -1:
    cdef Py_ssize_t i
    cdef bytes verb
    if len(VERBS) != N_VERBS:
        raise ImportError("N_VERBS does not match VERBS")
    for i in range(N_VERBS):
        verb = VERBS[i].encode("ascii")
        NUMBERS[i] = number(verb, PyBytes_GET_SIZE(verb))
    return 0


fill_numbers()


cdef inline bint is_blank(unsigned char octet) noexcept:
    return octet == c' ' or octet == c'\t'


cdef inline bint is_whole_line(const unsigned char* line, Py_ssize_t size) noexcept:
    """Whether the line ends in CRLF and has no CR, LF or NUL before that. RFC 5321 s2.3.8."""
    cdef size_t before
    if size < 2 or line[size - 2] != c'\r' or line[size - 1] != c'\n':
        return False
    before = <size_t> (size - 2)
    return (
        memchr(line, c'\r', before) == NULL
        and memchr(line, c'\n', before) == NULL
        and memchr(line, 0, before) == NULL
    )


cdef inline int code_of(const unsigned char* verb, Py_ssize_t size) noexcept:
    cdef uint64_t wanted
    cdef int code
    if size < 1 or size > VERB_OCTETS:
        return UNKNOWN
    wanted = number(verb, size)
    for code in range(N_VERBS):
        if NUMBERS[code] == wanted:
            return code
    return UNKNOWN


def split_command(bytes data not None, Py_ssize_t start, Py_ssize_t end, /):
    cdef const unsigned char* octets = data
    cdef Py_ssize_t at, stop
    cdef int code
    if start < 0 or end > PyBytes_GET_SIZE(data) or start > end:
        raise IndexError("start or end is outside the data")
    if not is_whole_line(octets + start, end - start):
        return BAD_LINE, b""
    stop = end - 2
    at = start
    while at < stop and not is_blank(octets[at]):
        at += 1
    code = code_of(octets + start, at - start)
    while at < stop and is_blank(octets[at]):
        at += 1
    while stop > at and is_blank(octets[stop - 1]):
        stop -= 1
    return code, PyBytes_FromStringAndSize(<const char*> octets + at, stop - at)
