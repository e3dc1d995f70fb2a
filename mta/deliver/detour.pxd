cdef class Detour:
    cdef list _waiting
    cdef dict _told

    cpdef done(self, letter)
