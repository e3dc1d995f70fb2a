from mta.accept.envelope cimport Builder as CBuilder

cdef class Shared:
    cdef public object _held_octets
    cdef public str hostname
    cdef object _patient
    cdef object _stressed
    cdef public object limits
    cdef public bint is_stressed
    cdef bint _exempts_trusted
    cdef public object max_octets
    cdef object _state
    cdef public object policy
    cdef public object link
    cdef public object ids
    cdef public CBuilder builder
    cdef public object note
    cdef public object parting
    cdef public bint is_stopping
    cdef public object time
    cdef public object later

    cpdef bint hold(self, octets) except -1
    cpdef release(self, octets)
