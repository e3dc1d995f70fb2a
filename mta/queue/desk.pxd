from mta.queue.guest cimport Guest as CGuest

cdef class Desk:
    cdef object _shared
    cdef object _epoll
    cdef object _commit
    cdef dict _guests
    cdef object _n_turns
    cdef Py_ssize_t _n_puts
    cdef Py_ssize_t _n_octets
    cdef Py_ssize_t _change_octets
    cdef object _answers
    cdef object _ordering
    cdef dict _on
    cdef object _hello
    cdef object _settle
    cdef object _greeted
    cdef object _closed
    cdef object _resolved
    cdef object _note
    cdef object _order

    cpdef bint serve(self, list fds) except -1
    cdef _read_some(self, list guests, Py_ssize_t octets, Py_ssize_t n_changes)
    cdef _read(self, CGuest guest, Py_ssize_t most)
    cpdef flush(self)
    cdef _drop(self, CGuest guest)
    cdef _check_in(self, CGuest guest, hello)
    cdef _confirmed(self, worker, count)
