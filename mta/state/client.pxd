from mta.state.places cimport Places as CPlaces
from mta.state.visit cimport Account as CAccount, Visit as CVisit

cdef class StateLink:
    cdef object _pid
    cdef object _loop
    cdef double _born_at
    cdef object _rules
    cdef object _fallback
    cdef object _networks
    cdef bint _counts_networks
    cdef public tuple is_limited
    cdef object _wire
    cdef dict _accounts
    cdef set _dirty
    cdef dict _open
    cdef Py_ssize_t _n_open
    cdef CPlaces _places
    cdef Py_ssize_t _most_kept
    cdef dict _unkept_until
    cdef dict _questions
    cdef object _n_asked
    cdef double _away_since
    cdef bint _is_stale
    cdef object _watch
    cdef public bint is_stressed
    cdef public object on_stress
    cdef object _decode_answers
    cdef object _decode_recalls
    cdef object _decode_stress

    cpdef use(self, bytes network, CAccount account, kind, n)
    cpdef leave(self, CVisit visit)
    cdef bint _may_begin(self, CAccount account) except -1
    cdef bint _may_keep(self, tuple place) except -1
    cdef _let_in(self, CVisit visit)
    cdef _count(self, tuple place, n)
