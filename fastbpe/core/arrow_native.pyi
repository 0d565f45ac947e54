"""Native twin of arrow_python."""

from typing import Any

from numpy.typing import NDArray

def schema_capsule(itemsize: int) -> object: ...
def array_capsule(ids: NDArray[Any], offsets: NDArray[Any]) -> object: ...
