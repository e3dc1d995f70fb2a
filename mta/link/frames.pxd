cpdef bytes frame(kind, payload=*)
cpdef bytes put_frame(bytes head, content, confirmed, bint repeat)
cpdef read_put(bytes payload)
