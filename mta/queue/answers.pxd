from mta.queue.guest cimport Guest as CGuest

cdef class Answers:
    cdef object _shared
    cdef list _settlers
    cdef dict _heard
    cdef dict _after

    cpdef committed(self, done)
    cdef _answered(self, CGuest guest, bytes id_)
