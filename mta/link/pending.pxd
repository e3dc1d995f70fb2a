cdef class Puts:
    cdef dict _pending
    cdef dict _withdrawn
    cdef public object n_confirmed

    cpdef list add(self, bytes id_, pending)
    cpdef stored(self, bytes ids)
