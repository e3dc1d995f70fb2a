"""Read a message as it comes in: where it ends, whose it is, and whether it is the one that was sent.

Rule: only CRLF ends a line and only CRLF "." CRLF a message, told by looking at each line's end and at the octet behind
it: this judges what the server under test sends, so it shares no code with it. RFC 5321 s4.5.2.
The id stands in the X-Load field, above which servers may put fields of their own; what follows it has the checksum
that it names.
"""

from zlib import crc32

from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t
from libc.stdio cimport sscanf
from libc.string cimport memchr, memcmp, memcpy, memset

cdef enum:
    # Where in a line.
    IN_LINE = 0
    LINE_START = 1
    DOT = 2
    DOT_CR = 3

    # A number past this is not one of ours.
    MOST_NUMBER = 1 << 30


cdef void begin_message(message_t* message) noexcept:
    """Forget the one before."""
    memset(message, 0, sizeof(message_t))
    message.at = LINE_START
    message.is_searching = True


cdef int check(message_t* message, const unsigned char* data, Py_ssize_t octets) except -1:
    if octets > 0 and not message.is_searching and message.has_id:
        message.found = crc32(PyMemoryView_FromMemory(<char*> data, octets, PyBUF_READ), message.found)
    return 0


cdef void search(message_t* message, const unsigned char* line, Py_ssize_t octets, bint is_whole) noexcept:
    """Look for the X-Load field in a line of the header, or the part of it that is there."""
    cdef Py_ssize_t n_kept = min(octets, HEADER_OCTETS - 1 - message.n_line)
    cdef long long number = -1
    cdef unsigned long long due = 0
    cdef int n_found
    memcpy(message.line + message.n_line, line, n_kept)
    message.n_line += n_kept
    if not is_whole:
        return
    message.line[message.n_line] = 0
    if message.n_line == 2:
        message.is_searching = False
    elif memcmp(message.line, b"X-Load: ", 8) == 0:
        message.is_searching = False
        n_found = sscanf(
            message.line + 8, b"%8c %lld %x %llx", message.run, &number, &message.wanted, &due)
        message.number, message.due_ns = number, <int64_t> due
        message.has_id = n_found == 4 and 0 <= number < MOST_NUMBER
    message.n_line = 0


cdef Py_ssize_t take_content(
    message_t* message, const unsigned char* data, Py_ssize_t octets, bint* is_over
) except -1:
    """Take octets of a message, up to its end and no further, and return how many; `is_over`: that was the end."""
    cdef Py_ssize_t at = 0
    # From here on, what is not yet in the checksum; and what is not yet searched.
    cdef Py_ssize_t since = 0
    cdef Py_ssize_t line_at = 0
    cdef const unsigned char* end
    is_over[0] = False
    while at < octets:
        if message.at == LINE_START:
            line_at = at
            if data[at] == b".":
                check(message, data + since, at - since)
                message.at = DOT
                at += 1
                line_at = since = at
            else:
                message.at = IN_LINE
        elif message.at == DOT:
            if data[at] == b"\r":
                # Part of the end, or of the line: that is told by the next octet.
                message.at = DOT_CR
                at += 1
                line_at = since = at
            else:
                message.at = IN_LINE
        elif message.at == DOT_CR:
            if data[at] == b"\n":
                is_over[0] = True
                return at + 1
            check(message, <const unsigned char*> b"\r", 1)
            if message.is_searching:
                search(message, <const unsigned char*> b"\r", 1, False)
            message.at = IN_LINE
        else:
            end = <const unsigned char*> memchr(data + at, b"\n", octets - at)
            if end == NULL:
                at = octets
                continue
            at = end - data + 1
            if not (data[at - 2] == b"\r" if at > 1 else message.after_cr):
                continue
            message.at = LINE_START
            if message.is_searching:
                search(message, data + line_at, at - line_at, True)
                since = line_at = at
    if message.is_searching:
        search(message, data + line_at, octets - line_at, False)
    check(message, data + since, octets - since)
    message.after_cr = data[octets - 1] == b"\r"
    return octets
