"""What has come of one run; `_run.pyx` says how, `_sink.pyi` what can be asked."""

from libc.stdint cimport int64_t


cdef class Run:
    cdef unsigned char* _seen
    cdef Py_ssize_t _octets
    cdef int64_t* _buckets
    cdef int64_t _first_due_ns
    cdef int64_t _last_ns
    cdef readonly int64_t messages
    cdef readonly int64_t doubled
    cdef readonly int64_t changed

    cdef int add(self, int64_t number, bint is_changed, int64_t due_ns, int64_t arrived_ns) except -1
