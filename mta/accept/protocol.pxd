from mta.accept.intake cimport Intake as CIntake
from mta.accept.progress cimport Progress as CProgress
from mta.accept.record cimport Record as CRecord
from mta.accept.shared cimport Shared as CShared
from mta.smtp.session cimport Session as CSession
from mta.state.visit cimport Visit as CVisit

cdef class SmtpProtocol:
    cdef public CSession session
    cdef public double touched_at
    cdef public object transport
    cdef CShared _shared
    cdef set _all
    cdef str _listener
    cdef str _tenant
    cdef CIntake _intake
    cdef CProgress _progress
    cdef object _origin
    cdef CRecord _record
    cdef CVisit _visit
    cdef object _then
    cdef bytes _id
    cdef str _ending
    cdef Py_ssize_t _n_errors
    cdef bint _trusted
    cdef bint _is_held
    cdef bint _is_reading
    cdef bint _is_choked
    cdef bint _has_all
    cdef bint _is_leaving

    cdef _end(self, reply, str reason)
    cdef _come_on(self)
    cdef bint _is_waiting(self)
    cdef _answered(self, reply)
    cdef _work(self, first=*)
    cdef _leave(self, transport)
    cdef bint _may_err(self) except -1
    cdef _pull(self)
    cdef _mail(self, event)
    cdef _rcpt(self, event)
    cpdef _answer_rcpt(self, event, refusal)
    cdef _refused(self, event)
    cdef _data(self)
    cdef _message(self, event)
    cdef _refuse(self, reply)
    cdef _read_on(self, bint wanted)
