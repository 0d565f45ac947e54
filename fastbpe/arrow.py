"""The ids of a batch as an Arrow array, handed over without a copy and without an Arrow library.

The two structs of Arrow's C data interface (arrow.apache.org/docs/format/CDataInterface.html) are made by ctypes and go
out in capsules, as its PyCapsule interface asks for: large_list<uint32>, or uint16, no nulls.
"""

from __future__ import annotations

import ctypes
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class TokenBatch(NamedTuple):
    """The ids of several texts, one behind the other.

    Unpacks as a tuple.  Arrow libraries take it as it is: `pyarrow.array(batch)`.

    Attributes:
        ids: uint32 or uint16 [n].
        offsets: int64 [m + 1]; the ids of text i are `ids[offsets[i]:offsets[i + 1]]`.
    """

    ids: NDArray[Any]
    offsets: NDArray[np.int64]

    def __arrow_c_schema__(self) -> object:
        """Return a capsule "arrow_schema"."""
        child = _schema(_FORMATS[self.ids.dtype.itemsize], b"item", [])
        return _capsule(_schema(b"+L", b"", [child]), b"arrow_schema")

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        """Return capsules "arrow_schema" and "arrow_array".  Another schema than ours is not offered."""
        ids, offsets = np.ascontiguousarray(self.ids), np.ascontiguousarray(self.offsets)
        child = _array(len(ids), [None, ids.ctypes.data], [], ids)
        parent = _array(len(offsets) - 1, [None, offsets.ctypes.data], [child], offsets)
        return self.__arrow_c_schema__(), _capsule(parent, b"arrow_array")


_FORMATS = {2: b"S", 4: b"I"}
_NULLABLE = 2  # as Arrow libraries make types themselves; there are no nulls


class _Schema(ctypes.Structure):
    pass


class _Array(ctypes.Structure):
    pass


_Release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(_Schema))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]
_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]

# What the structs that are out point to, by the number in private_data.  The consumer may move a struct and release it
# where it is then, from any thread.
_alive: dict[int, Any] = {}
_numbers = count(1)


def _keep(struct: Any, release: Any, *owned: Any) -> None:
    struct.private_data = number = next(_numbers)
    _alive[number] = owned
    struct.release = ctypes.cast(release, ctypes.c_void_p).value


def _schema(format: bytes, name: bytes, children: list[_Schema]) -> _Schema:
    pointers = (ctypes.POINTER(_Schema) * len(children))(*map(ctypes.pointer, children))
    schema = _Schema(format=format, name=name, flags=_NULLABLE, n_children=len(children))
    if children:
        schema.children = pointers
    _keep(schema, _RELEASE_SCHEMA, format, name, pointers, children)
    return schema


def _array(length: int, buffers: list[int | None], children: list[_Array], owner: Any) -> _Array:
    pointers = (ctypes.POINTER(_Array) * len(children))(*map(ctypes.pointer, children))
    addresses = (ctypes.c_void_p * len(buffers))(*buffers)
    array = _Array(length=length, n_buffers=len(buffers), n_children=len(children), buffers=addresses)
    if children:
        array.children = pointers
    _keep(array, _RELEASE_ARRAY, owner, addresses, pointers, children)
    return array


def _released(struct: Any) -> None:
    for at in range(struct.n_children):
        child = struct.children[at].contents
        if child.release:
            _Release(child.release)(ctypes.addressof(child))
    _alive.pop(struct.private_data, None)
    struct.release = None


def _release_schema(address: int) -> None:
    _released(_Schema.from_address(address))


def _release_array(address: int) -> None:
    _released(_Array.from_address(address))


_RELEASE_SCHEMA = _Release(_release_schema)
_RELEASE_ARRAY = _Release(_release_array)


_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _Destructor]
_get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_structs: dict[int, tuple[Any, bytes]] = {}  # by address: those in capsules, and the names of these


def _capsule(struct: Any, name: bytes) -> object:
    address = ctypes.addressof(struct)
    _structs[address] = struct, name
    return _api.PyCapsule_New(address, name, _DESTROY[name])


def _destroyed(capsule: int, name: bytes) -> None:
    address = _get_pointer(capsule, name)
    struct, _ = _structs.pop(address)
    if struct.release:  # nobody has taken it
        _Release(struct.release)(address)


def _destroy_schema(capsule: int) -> None:
    _destroyed(capsule, b"arrow_schema")


def _destroy_array(capsule: int) -> None:
    _destroyed(capsule, b"arrow_array")


_DESTROY = {b"arrow_schema": _Destructor(_destroy_schema), b"arrow_array": _Destructor(_destroy_array)}
