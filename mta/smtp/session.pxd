from mta.smtp.body cimport Body as CBody

cdef class Session:
    cdef public object state
    cdef public str helo
    cdef public bint esmtp
    cdef public object limits
    cdef public Py_ssize_t n_errors
    cdef public Py_ssize_t n_errors_ever
    cdef public Py_ssize_t n_messages
    cdef public object sender
    cdef public list recipients
    cdef public bint utf8
    cdef public bint body_8bit
    cdef str _hostname
    cdef object _max_octets
    cdef bytes _buffer
    cdef Py_ssize_t _at
    cdef bint _skipping
    cdef list _replies
    cdef object _move
    cdef object _asked
    cdef object _pause
    cdef object _parting
    cdef object _farewell
    cdef CBody _body

    cpdef reset_transaction(self)
    cpdef receive(self, bytes data)
    cpdef bytes output(self)
    cpdef next_event(self)
    cpdef answer(self, reply, recipient=*)
    cdef _read_command(self)
    cdef _hello(self, bytes argument, bint esmtp)
    cdef _read_body(self)
    cdef _ask(self, event)
    cdef _refuse(self, str stage, reply, bytes argument)
    cdef _reply_error(self, reply)
    cdef _close(self, reply, str reason)
