from mta.smtp.transaction cimport Transaction as CTransaction

cdef class Client:
    cdef public bint is_over
    cdef public Py_ssize_t n_replies
    cdef str _hostname
    cdef str _remote_mta
    cdef object _limits
    cdef object _reader
    cdef object _expected
    cdef object _waiting
    cdef object _open
    cdef list _events
    cdef list _output
    cdef bint _is_ready
    cdef bint _needs_rset
    cdef bint _has_settled
    cdef object _stuffer
    cdef Py_ssize_t _n_sent
    cdef object _offers
    cdef bint _is_early

    cpdef send_more(self)
    cpdef deliver(self, letter)
    cpdef receive(self, bytes data)
    cpdef list events(self)
    cpdef list output(self)
    cpdef quit(self)
    cpdef lost(self, str what)
    cdef _pump(self)
    cdef bint _start(self) except -1
    cdef _compose(self, letter)
    cdef _lack(self, letter, bint is_utf8)
    cdef _send_piece(self, letter)
    cdef _settle(self, rest)
    cdef _end(self, outcome, bint is_hosts_fault=*)
    cdef _close(self, outcome)
    cdef _refusal(self, str status, int code, bytes text, str at)
    cdef _outcome(self, str status, int code, bytes text, str reason, str enhanced=*)
