from mta.link.pending cimport Puts as CPuts
from mta.link.recent cimport Recent as CRecent

cdef class QueueLink:
    cdef str _data_dir
    cdef object _worker
    cdef object _pid
    cdef double _grace_s
    cdef object _loop
    cdef object _tasks
    cdef dict _ends
    cdef bint _is_up
    cdef bint _is_closing
    cdef bint _flush_is_due
    cdef object _connecting
    cdef dict _welcomed
    cdef object _incarnation
    cdef CPuts _puts
    cdef public CRecent recent
    cdef public bint has_storage
    cdef object _streams
    cdef list _settling
    cdef object _unsettled
    cdef list _later
    cdef object _notes
    cdef bint _is_leaving
    cdef object _ids
    cdef dict _on
    cdef object _decode_refused
    cdef object _decode_lease
    cdef object _decode_report
    cdef object _decode_settled
    cdef object _decode_resolve
    cdef object _decode_welcome

    cpdef settle(self, settlement)
    cdef _say(self, kind, payload)
    cdef _flush_soon(self)
    cdef _gather(self)
    cpdef _flush(self)
    cpdef received(self, end, kind, bytes payload)
