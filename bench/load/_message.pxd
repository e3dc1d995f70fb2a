"""A message as it comes in; `_message.pyx` says how it is read."""

from libc.stdint cimport int64_t, uint32_t

cdef enum:
    RUN_OCTETS = 8
    HEADER_OCTETS = 128

cdef struct message_t:
    int at                      # where in a line
    bint after_cr               # the last octet of the read before was a CR
    bint is_searching           # for the X-Load field
    bint has_id
    char run[RUN_OCTETS]
    int64_t number
    int64_t due_ns
    uint32_t wanted             # the checksum that X-Load names
    uint32_t found
    char line[HEADER_OCTETS]    # the beginning of a line of the header
    Py_ssize_t n_line

cdef void begin_message(message_t* message) noexcept
cdef Py_ssize_t take_content(
    message_t* message, const unsigned char* data, Py_ssize_t octets, bint* is_over) except -1
