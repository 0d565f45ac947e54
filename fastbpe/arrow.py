"""The ids of a batch, which Arrow libraries take without a copy, and without an Arrow library here."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastbpe import core


class TokenBatch(NamedTuple):
    """The ids of several texts, one behind the other.

    Unpacks as a tuple.  Arrow libraries take it as it is, by the PyCapsule interface: `pyarrow.array(batch)` is a
    large_list<uint32>, or uint16, on the same memory.

    Attributes:
        ids: uint32 or uint16 [n].
        offsets: int64 [m + 1]; the ids of text i are `ids[offsets[i]:offsets[i + 1]]`.
    """

    ids: NDArray[Any]
    offsets: NDArray[np.int64]

    def __arrow_c_schema__(self) -> object:
        """Return a capsule "arrow_schema".

        Raises:
            UnsupportedError: the backend is not the native one.
        """
        self._check()
        return core.schema_capsule(self.ids.dtype.itemsize)

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        """Return capsules "arrow_schema" and "arrow_array".  No other schema is offered, whatever is requested.

        Raises:
            ValueError: ids or offsets are not such arrays.
            UnsupportedError: the backend is not the native one.
        """
        self._check()
        schema = core.schema_capsule(self.ids.dtype.itemsize)
        return schema, core.array_capsule(np.ascontiguousarray(self.ids), np.ascontiguousarray(self.offsets))

    def _check(self) -> None:
        """A reader of the structs checks nothing, so what a caller has put together is checked here."""
        for name, array, kinds in ("ids", self.ids, ("<u4", "<u2")), ("offsets", self.offsets, ("<i8",)):
            if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.newbyteorder("<").str not in kinds:
                raise ValueError(f"TokenBatch: {name} must be an array of one dimension of {' or '.join(kinds)}")
            if not array.dtype.isnative:
                raise ValueError(f"TokenBatch: {name} must be in the byte order of this machine")
        offsets = self.offsets
        if not len(offsets) or offsets[0] < 0 or offsets[-1] > len(self.ids) or (np.diff(offsets) < 0).any():
            raise ValueError("TokenBatch: offsets must grow from 0 to the number of ids")
