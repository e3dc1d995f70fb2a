from mta.smtp.received cimport DateStamp as CDateStamp
from mta.smtp.session cimport Session as CSession

cdef class Builder:
    cdef str _hostname
    cdef public object max_received
    cdef object _max_octets
    cdef object _give_up_ms
    cdef CDateStamp _stamp

cdef tuple _parts(dict recipients, str tenant)
