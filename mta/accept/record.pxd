from mta.smtp.session cimport Session as CSession

cdef class Record:
    cdef object _shared
    cdef object _origin
    cdef CSession _session
    cdef double _began_at
