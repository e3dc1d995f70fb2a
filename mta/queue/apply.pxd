from mta.store.writer cimport Writer as CWriter

cpdef put_message(CWriter writer, head, content, now, bint repeat, streamed=*)
cpdef settle_part(CWriter writer, settlement, now, next_at, bint keep_id)
cdef _cut_outcome(outcome)
