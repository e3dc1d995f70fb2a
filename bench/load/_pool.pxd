"""Connections of the source, and what is common to all of them; `_pool.pyx` says how."""

from libc.stdint cimport int64_t, uint32_t

from bench.load._wire cimport sockaddr_in

cdef enum:
    # What a slot waits for.
    FREE = 0        # a message
    RESTING = 1     # its time to connect again
    GREETING = 2
    HELLO = 3
    ENVELOPE = 4    # the reply to MAIL, RCPT or DATA: `step` says which
    BODY = 5        # room to send more of the body
    STORED = 6      # the reply to the message
    RESET = 7
    QUIT = 8
    GONE = 9        # the end: nothing more

    OUT_OCTETS = 512
    HEAD_OCTETS = 20

cdef struct slot_t:
    int fd
    int state
    int step
    int refusal             # the code of the first refusal in this transaction
    bint is_queued          # among the free ones
    bint is_writing         # the kernel is asked for room
    bint has_message
    bint is_settled         # its first attempt to connect has ended, in one way or the other
    bint has_pipelining
    bint has_8bitmime
    int64_t number
    int64_t due_ns
    int64_t body_sent_ns
    int64_t rest_until_ns
    int variant
    const char* body        # what follows `out`, NULL for nothing
    Py_ssize_t n_body
    char out[OUT_OCTETS]
    Py_ssize_t n_out
    Py_ssize_t out_at
    Py_ssize_t body_at
    char head[HEAD_OCTETS]  # the beginning of the reply line that comes in
    int n_head


cdef class Pool:
    cdef slot_t* slots
    cdef int n_slots
    cdef int* _ring
    cdef int _ring_at
    cdef int _n_free
    cdef int n_resting
    cdef int n_unsettled
    cdef bint is_over
    cdef bint is_fresh
    cdef int64_t now
    cdef int _epoll
    cdef int _timer
    cdef int64_t _wakes_at
    cdef sockaddr_in _address
    cdef readonly int64_t broken
    cdef readonly int error

    cdef void take_reply(self, slot_t* slot, int code) noexcept
    cdef void body_is_sent(self, slot_t* slot) noexcept
    cdef void end_message(self, slot_t* slot) noexcept
    cdef slot_t* take_free(self) noexcept
    cdef void make_free(self, slot_t* slot) noexcept
    cdef void wake_at(self, int64_t due) noexcept
    cdef void turn(self, int timeout_ms) noexcept
    cdef void _watch(self, int fd, uint32_t which, uint32_t what, int how) noexcept
    cdef void connect(self, slot_t* slot) noexcept
    cdef void settle(self, slot_t* slot) noexcept
    cdef void drop(self, slot_t* slot) noexcept
    cdef void lose(self, slot_t* slot, int error) noexcept
    cdef void say(self, slot_t* slot, const char* line, Py_ssize_t octets) noexcept
    cdef void write(self, slot_t* slot) noexcept
    cdef void _read(self, slot_t* slot) noexcept
    cdef void _take_line(self, slot_t* slot) noexcept
