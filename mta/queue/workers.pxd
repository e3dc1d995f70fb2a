cdef class Worker:
    cdef public object incarnation
    cdef public object number
    cdef public object pid
    cdef public object credit
    cdef public dict ends
    cdef public set ready_ends
    cdef public object unconfirmed
    cdef public object n_confirmed
    cdef public set doubtful
    cdef public bint is_leaving
    cdef public bint has_died


cdef class Workers:
    cdef dict _known
    cdef set _listed
    cdef object _awaited
    cdef public set gone
    cdef public set repeatable

    cpdef list all(self)
    cpdef find(self, incarnation)
    cpdef answered(self, Worker worker, bytes id_)
    cpdef list confirmed(self, Worker worker, count)
    cpdef bint is_repeatable(self, bytes id_) except -1
