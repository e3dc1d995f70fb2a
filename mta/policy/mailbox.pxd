cdef class Mailboxes:
    cdef tuple _parts
    cdef frozenset _domains
    cdef bint _create
    cdef str _postmaster

    cpdef bint has_domain(self, address) except -1


cdef class MailboxCheck:
    cdef Mailboxes _mailboxes

    cpdef rcpt(self, recipient, bint trusted)
