cdef class DateStamp:
    cdef object _second
    cdef str _text

    cpdef str text(self, double now_s)

cpdef bytes received_field(
    str helo, str client_ip, str hostname, str protocol, str id_text, str recipient_text, str when
)
cdef str _fold(tuple words)
