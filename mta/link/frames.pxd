cpdef bytes frame(kind, payload=*)
cpdef list put_pieces(bytes head, content, confirmed, bint repeat)
cpdef read_put(bytes payload)
