from mta.queue.leases cimport Leases as CLeases

cdef class Suspects:
    cdef CLeases _leases
    cdef public object settings
    cdef dict _waiting
    cdef bytes _alone
    cdef object _reserved

    cpdef forget(self, bytes part)
    cdef _release(self)
