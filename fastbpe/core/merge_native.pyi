"""Native twin of merge_python."""

from collections.abc import Mapping, Sequence

class Merger:
    def __init__(
        self,
        vocab: Mapping[bytes, int],
        merges: Sequence[tuple[bytes, bytes]] | None,
        whole: bool,
        *,
        vectors: str = "",
    ) -> None: ...
    def prepare(self) -> None: ...
    def merge(self, piece: bytes) -> list[int]: ...
