cdef class Batch:
    cdef object _writer
    cdef object _trash
    cdef list _changes
    cdef Py_ssize_t _octets
    cdef bint _is_awaited
    cdef list _notes
    cdef list _asleep
    cdef list _forget
    cdef object _taken
    cdef object _taken_before
    cdef readonly Py_ssize_t n_commits

    cpdef add(self, change)
    cdef bint _apply(self, now) except -1
