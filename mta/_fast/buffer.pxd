"""Make a bytes object whose length is known only when it is filled. Between the two calls it has no other owner."""

from cpython.object cimport PyObject

cdef extern from "Python.h":
    PyObject* PyBytes_FromStringAndSize(const char* octets, Py_ssize_t size) except NULL
    char* PyBytes_AS_STRING(PyObject* made)
    int _PyBytes_Resize(PyObject** made, Py_ssize_t size) except -1
    void Py_DECREF(PyObject* made)


cdef inline PyObject* begin_bytes(Py_ssize_t capacity) except NULL:
    """Return a new bytes object of `capacity` octets, not filled."""
    return PyBytes_FromStringAndSize(NULL, capacity)


cdef inline unsigned char* room_of(PyObject* made) noexcept:
    """Return where its octets are."""
    return <unsigned char*> PyBytes_AS_STRING(made)


cdef inline bytes finish_bytes(PyObject* made, Py_ssize_t size):
    """Cut it to the `size` octets that were filled, and hand it over."""
    cdef bytes result
    _PyBytes_Resize(&made, size)
    result = <bytes> made
    Py_DECREF(made)
    return result
