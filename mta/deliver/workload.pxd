from mta.deliver.detour cimport Detour as CDetour
from mta.deliver.shares cimport Shares as CShares

cdef class Workload:
    cdef object _session
    cdef object _report
    cdef object _jobs
    cdef Py_ssize_t _n_room
    cdef CShares _shares
    cdef CDetour _detour
    cdef bint _is_on_detour
    cdef bint _was_greeted
    cdef bint _has_ruled
    cdef bint _is_fruitless
    cdef object _failure
    cdef bint _has_unheard
    cdef object _end

    cpdef add(self, jobs)
    cpdef list letters(self)
    cpdef done(self, letter, outcomes)
    cdef _tell(self, letter, outcomes)
