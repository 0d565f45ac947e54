"""The two structs of Arrow's C data interface (arrow.apache.org/docs/format/CDataInterface.html), in capsules.

A schema is plain memory.  An array holds a reference to each of the two numpy arrays, which its consumer gives back from
any thread, with an exception pending, or when the interpreter is gone: then they are left alone.
"""

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport calloc, free

cdef extern from "Python.h":
    int Py_IsInitialized() nogil
    void PyErr_Fetch(PyObject **type, PyObject **value, PyObject **traceback)
    void PyErr_Restore(PyObject *type, PyObject *value, PyObject *traceback)

cdef enum:
    NULLABLE = 2  # as Arrow libraries make types themselves; there are no nulls


cdef struct ArrowSchema:
    const char *format
    const char *name
    const char *metadata
    int64_t flags
    int64_t n_children
    ArrowSchema **children
    ArrowSchema *dictionary
    void (*release)(ArrowSchema *) noexcept nogil
    void *private_data


cdef struct ArrowArray:
    int64_t length
    int64_t null_count
    int64_t offset
    int64_t n_buffers
    int64_t n_children
    const void **buffers
    ArrowArray **children
    ArrowArray *dictionary
    void (*release)(ArrowArray *) noexcept nogil
    void *private_data


cdef struct SchemaParts:
    ArrowSchema child
    ArrowSchema *children[1]


cdef void leave_child_schema(ArrowSchema *schema) noexcept nogil:
    schema.release = NULL  # its memory is the parent's


cdef void release_schema(ArrowSchema *schema) noexcept nogil:
    cdef SchemaParts *parts = <SchemaParts *>schema.private_data
    if schema.children[0].release:
        schema.children[0].release(schema.children[0])
    free(parts)
    schema.release = NULL


cdef void drop_owner(void *owner) noexcept nogil:
    """Give a reference back."""
    cdef PyObject *error[3]
    if not Py_IsInitialized():
        return
    with gil:
        PyErr_Fetch(&error[0], &error[1], &error[2])
        Py_DECREF(<object>owner)
        PyErr_Restore(error[0], error[1], error[2])


cdef void release_child_array(ArrowArray *array) noexcept nogil:
    drop_owner(array.private_data)
    free(<void *>array.buffers)
    array.release = NULL


cdef void release_array(ArrowArray *array) noexcept nogil:
    """A child that was moved away has its buffers and its owner with it."""
    if array.children[0].release:
        array.children[0].release(array.children[0])
    drop_owner(array.private_data)
    free(array.children[0])
    free(array.children)
    free(<void *>array.buffers)
    array.release = NULL


cdef void free_schema(object capsule) noexcept:
    cdef ArrowSchema *schema = <ArrowSchema *>PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))
    if schema.release:  # nobody has taken it
        schema.release(schema)
    free(schema)


cdef void free_array(object capsule) noexcept:
    cdef ArrowArray *array = <ArrowArray *>PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))
    if array.release:
        array.release(array)
    free(array)


def schema_capsule(int itemsize):
    """Return a capsule "arrow_schema": large_list of uint32, or of uint16."""
    cdef ArrowSchema *schema = <ArrowSchema *>calloc(1, sizeof(ArrowSchema))
    cdef SchemaParts *parts = <SchemaParts *>calloc(1, sizeof(SchemaParts))
    if not schema or not parts:
        free(schema)
        free(parts)
        raise MemoryError
    parts.child.format = "S" if itemsize == 2 else "I"
    parts.child.name = "item"
    parts.child.flags = NULLABLE
    parts.child.release = leave_child_schema
    parts.children[0] = &parts.child
    schema.format = "+L"
    schema.name = ""
    schema.flags = NULLABLE
    schema.n_children = 1
    schema.children = parts.children
    schema.release = release_schema
    schema.private_data = parts
    return PyCapsule_New(schema, "arrow_schema", free_schema)


cdef const void **two_buffers(object owner) except NULL:
    """Return no validity, and the data of a numpy array."""
    cdef const void **buffers = <const void **>calloc(2, sizeof(void *))
    if not buffers:
        raise MemoryError
    buffers[1] = <const void *><uintptr_t>owner.ctypes.data
    return buffers


def array_capsule(ids, offsets):
    """Return a capsule "arrow_array" of ids, uint32 or uint16 [n], and offsets, int64 [m + 1]: contiguous."""
    cdef ArrowArray *array = <ArrowArray *>calloc(1, sizeof(ArrowArray))
    cdef ArrowArray *child = <ArrowArray *>calloc(1, sizeof(ArrowArray))
    cdef ArrowArray **children = <ArrowArray **>calloc(1, sizeof(ArrowArray *))
    if not array or not child or not children:
        free(array)
        free(child)
        free(children)
        raise MemoryError
    capsule = PyCapsule_New(array, "arrow_array", free_array)
    children[0] = child
    child.length = len(ids)
    child.n_buffers = 2
    child.buffers = two_buffers(ids)
    Py_INCREF(ids)
    child.private_data = <void *>ids
    child.release = release_child_array
    array.length = len(offsets) - 1
    array.n_buffers = 2
    array.n_children = 1
    array.buffers = two_buffers(offsets)
    array.children = children
    Py_INCREF(offsets)
    array.private_data = <void *>offsets
    array.release = release_array
    return capsule
