"""Tokenizer: arguments and special-token policy in front of the engine that core builds from a definition."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from operator import index
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastbpe import core, encodings, formats
from fastbpe.arrow import TokenBatch
from fastbpe.batch import encode_batch
from fastbpe.core.packed import Merges, PackedVocab
from fastbpe.errors import SpecialTokenError, TokenIdError, TokenIdRangeError
from fastbpe.files import write_whole
from fastbpe.ids import Ids, id_array, show
from fastbpe.normalize import nfc, quick_check
from fastbpe.pattern.boxes import PackedBoxes
from fastbpe.pattern.parse import OutsideSubset
from fastbpe.pattern.sequence import compile_sequence, search_boxes
from fastbpe.spec import Split, TokenizerSpec
from fastbpe.streaming import feed, runs, to_utf8

SpecialTokens = Literal["all"] | Collection[str]

MAX_PRETOKEN_BYTES = 64 << 20
MAX_THREADS = 1024
CACHE_BYTES = 48 << 20
MIN_CACHE_BYTES = 1 << 19
MAX_CACHE_BYTES = 1 << 36
_FORBIDDEN = 1 << 32  # matches from here on are special tokens that the call did not allow; below, the number is the id
_RAW = -1
_NOTHING: frozenset[str] = frozenset()
_ALL: Literal["all"] = "all"
_UINT32 = np.uint32
_POLICIES = 16  # combinations of allowed and disallowed tokens remembered by one tokenizer


class Tokenizer:
    """A byte-level BPE tokenizer: text to token ids and back.

    Immutable: equal, hashable and pickled by its definition (a bundled encoding by its name), safe to share between
    threads and across fork.

    >>> import fastbpe
    >>> tok = fastbpe.get_encoding("gpt2")
    >>> tok.encode("hello world")
    [31373, 995]
    >>> tok.decode([31373, 995])
    'hello world'
    """

    def __init__(self, spec: TokenizerSpec, *, allow_regex: bool = True, cache_bytes: int = CACHE_BYTES) -> None:
        """Build the engine of a definition.

        Args:
            spec: the definition.
            allow_regex: whether a split pattern that does not compile may run on the `regex` module: the same
                results, slower.
            cache_bytes: how much memory each thread at work may use to remember the ids of pretokens of up to 256
                bytes, 512 KB or more; it is taken as it is needed, and what two threads have is kept between calls.
                With 0 nothing is.  Ids never depend on it.

        Raises:
            PatternError: the split pattern cannot be used, or needs `regex` and that is not allowed.
            ValueError: cache_bytes is neither 0 nor at least 512 KB.
        """
        if not isinstance(spec, TokenizerSpec):
            raise TypeError(f"Tokenizer(): spec must be a TokenizerSpec, got {show(spec)}; load() reads files")
        if type(cache_bytes) is not int or not (cache_bytes == 0 or MIN_CACHE_BYTES <= cache_bytes <= MAX_CACHE_BYTES):
            limits = f"0 or {MIN_CACHE_BYTES} to {MAX_CACHE_BYTES}"
            raise ValueError(f"Tokenizer(): cache_bytes must be {limits}, got {show(cache_bytes)}")
        self._spec = spec
        splitter = make_splitter(spec.splits, allow_regex, spec.boxes)
        # What training packs says by itself which parts make a token, so the merges are not looked at.
        known = isinstance(spec.merges, Merges) and isinstance(spec.vocab, PackedVocab)
        merger = core.Merger(spec.vocab, None if known else spec.merges, spec.whole)
        self._cache_bytes = cache_bytes
        quick = None if spec.normalizer is None else quick_check()
        self._encoder = core.Encoder(splitter, merger, quick_check=quick, cache_bytes=cache_bytes)
        self._encode_text = self._encoder.encode_text
        self._normalizer = spec.normalizer
        others: dict[int, bytes] = {}
        for added in spec.added_tokens:
            others.setdefault(added.id, added.content.encode())
        self._decoder = core.Decoder(spec.vocab, others)
        self._special = spec.special_tokens
        self._added = {t.content: t.id for t in spec.added_tokens if not t.special}
        self._policies: dict[tuple[SpecialTokens, SpecialTokens], _Policy] = {}
        self._default = self._policy(_NOTHING, _ALL, "").matcher
        self._ordinary = self._policy((), (), "").matcher

    # ---------------------------------------------------------------- the definition

    @property
    def spec(self) -> TokenizerSpec:
        """The definition."""
        return self._spec

    @property
    def name(self) -> str | None:
        """The name of a bundled encoding, or what the definition carries."""
        return self.spec.name

    @property
    def pattern(self) -> str | tuple[str, ...]:
        """The split pattern; a tuple where several split in sequence."""
        patterns = tuple(split.pattern for split in self.spec.splits)
        return patterns[0] if len(patterns) == 1 else patterns

    @property
    def n_vocab(self) -> int:
        """The greatest id plus one."""
        return self.spec.n_vocab

    @property
    def vocab(self) -> Mapping[bytes, int]:
        """The ordinary tokens and their ids."""
        return self.spec.vocab

    @property
    def merges(self) -> tuple[tuple[bytes, bytes], ...] | None:
        """The merges in order, or None where ranks decide."""
        merges = self.spec.merges
        return merges.pairs() if isinstance(merges, Merges) else merges

    @property
    def special_tokens(self) -> dict[str, int]:
        """The special tokens and their ids."""
        return dict(self._special)

    @property
    def fingerprint(self) -> str:
        """The sha256 of the definition, in hexadecimal; the same in every process and version."""
        return self.spec.fingerprint

    def to_bytes(self) -> bytes:
        """Return the definition in fastbpe's own format; `from_bytes` reads it."""
        return self.spec.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Tokenizer:
        """Return the tokenizer of a definition that `to_bytes` wrote.

        Raises:
            VocabularyError: the bytes are damaged or not of this format.
        """
        return cls(TokenizerSpec.from_bytes(data))

    def save(self, path: str | os.PathLike[str], *, format: str | None = None) -> None:
        """Write the definition to a file, whole or not at all; an existing file is replaced.

        Args:
            path: the file; its suffix decides the format: `.fbpe` (fastbpe's own, which holds everything),
                `.tiktoken` (ranks alone), `.json` (tokenizer.json).  A folder gets vocab.json and merges.txt.
                For a `.fbpe` with a split pattern of your own, what makes splitting fast is searched and stored too:
                that may take a few seconds, and is spared when it is loaded again.
            format: "fbpe", "tiktoken", "tokenizer.json" or "gpt2" (a folder), whatever the suffix says.

        Raises:
            UnsupportedError: the format cannot hold this definition; the message says what.
        """
        if format == "gpt2" or (format is None and os.path.isdir(path)):
            files = zip(("vocab.json", "merges.txt"), formats.gpt2.write(self.spec))
            os.makedirs(path, exist_ok=True)
            for name, data in files:
                write_whole(os.path.join(path, name), data)
            return
        format = format or formats.format_for_path(path)
        write_whole(path, formats.write(self._boxed() if format == "fbpe" else self.spec, format))

    def shrink(self, vocab_size: int) -> Tokenizer:
        """Return the same tokenizer with fewer ids, as if it had been trained to that size without chosen ids.

        The tokens of the least ids stay, and the merges that make them. Special and other added tokens stay all; those
        that stood behind every ordinary token follow the last one, in their order, and the others keep their ids.

        Args:
            vocab_size: ordinary and added tokens together: from 256 and the added tokens to what there is.
        """
        if isinstance(vocab_size, bool) or not isinstance(vocab_size, (int, np.integer)):
            raise TypeError(f"shrink(): vocab_size must be an int, got {show(vocab_size)}")
        return Tokenizer(self.spec.shrunk(int(vocab_size)), cache_bytes=self._cache_bytes)

    def _boxed(self) -> TokenizerSpec:
        """Return the definition with boxes, where its pattern compiles and none are known."""
        tables = getattr(self._encoder.splitter, "tables", None)
        if tables is None or tables.boxes is not None:
            return self.spec
        boxes = search_boxes(_steps(self.spec.splits))
        return self.spec if boxes is None else self.spec.boxed(boxes)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.name in encodings.NAMES and self is get_encoding(self.name):  # others of its name may have other ids
            return (get_encoding, (self.name,))
        return (_unpickled, (self.to_bytes(), self._cache_bytes))

    def __eq__(self, other: object) -> bool:
        return self.spec == other.spec if isinstance(other, Tokenizer) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.spec)

    def __repr__(self) -> str:
        return f"<Tokenizer {self.name or self.fingerprint[:12]!r} of {self.n_vocab} ids>"

    # ---------------------------------------------------------------- text to ids

    def encode(
        self,
        text: str,
        *,
        allowed_special: SpecialTokens = _NOTHING,
        disallowed_special: SpecialTokens = _ALL,
    ) -> list[int]:
        """Return the ids of a text.

        Args:
            text: the text.  Surrogate pairs are joined; lone surrogates become U+FFFD.
            allowed_special: special tokens that the text may spell, or "all"; each becomes its one id.  What is no
                special token of the vocabulary is left out.
            disallowed_special: texts that must not occur; "all" means the special tokens that are not allowed.
                With () they are ordinary text.

        Raises:
            SpecialTokenError: the text spells a disallowed special token.
            TypeError: text is not a str; for bytes there is encode_bytes().
        """
        ids: list[int] | None = None
        if allowed_special is _NOTHING:  # short texts: a call costs more than its work
            if disallowed_special is _ALL:
                ids = self._encode_text(text, self._default, True)
            elif disallowed_special == ():
                ids = self._encode_text(text, self._ordinary, True)
            if ids is not None:
                return ids
        return self._encode(text, allowed_special, disallowed_special, "encode()", listed=True)  # type: ignore[no-any-return]

    def encode_ordinary(self, text: str) -> list[int]:
        """Return the ids of a text in which special tokens are ordinary text; never raises on content."""
        ids: list[int] | None = self._encode_text(text, self._ordinary, True)
        if ids is not None:
            return ids
        return self._encode(text, (), (), "encode_ordinary()", listed=True)  # type: ignore[no-any-return]

    def encode_to_numpy(
        self,
        text: str,
        *,
        allowed_special: SpecialTokens = _NOTHING,
        disallowed_special: SpecialTokens = _ALL,
        dtype: DTypeLike = _UINT32,
    ) -> NDArray[Any]:
        """Return the ids of a text as an array of its own, [n], writable; otherwise as encode().

        Args:
            text: as in encode().
            allowed_special: as in encode().
            disallowed_special: as in encode().
            dtype: uint32, or uint16 if the vocabulary has at most 65,536 ids.
        """
        wanted = dtype if dtype is _UINT32 else self._dtype(dtype, "encode_to_numpy()")
        ids: NDArray[Any] | None = None
        if allowed_special is _NOTHING:  # as in encode()
            if disallowed_special is _ALL:
                ids = self._encode_text(text, self._default)
            elif disallowed_special == ():
                ids = self._encode_text(text, self._ordinary)
        if ids is None:
            ids = self._encode(text, allowed_special, disallowed_special, "encode_to_numpy()")
        return ids if wanted is _UINT32 else ids.astype(wanted, copy=False)

    def encode_into(
        self,
        text: str,
        buffer: NDArray[Any],
        position: int = 0,
        *,
        allowed_special: SpecialTokens = _NOTHING,
        disallowed_special: SpecialTokens = _ALL,
    ) -> int:
        """Write the ids of a text into an array from a position on; return the position behind them.

        Args:
            text: as in encode().
            buffer: a one-dimensional writable array of uint32, or of uint16 if the vocabulary has at most 65,536 ids:
                a memory-mapped file, for example.
            position: where the first id goes.
            allowed_special: as in encode().
            disallowed_special: as in encode().

        Raises:
            TypeError: the buffer is no array.
            ValueError: it is of another kind, or has no room for all ids; then nothing is written.
        """
        if not isinstance(buffer, np.ndarray):
            raise TypeError(f"encode_into(): buffer must be a numpy array, got {show(buffer)}")
        if buffer.ndim != 1 or not buffer.flags.writeable:
            got = f"{buffer.ndim}" + ("" if buffer.flags.writeable else ", read-only")
            raise ValueError(f"encode_into(): buffer must be a writable array of 1 dimension, got one of {got}")
        self._dtype(buffer.dtype, "encode_into()")
        if not hasattr(position, "__index__") or not 0 <= (position := index(position)) <= len(buffer):
            raise ValueError(f"encode_into(): position must be 0 to {len(buffer)}, got {show(position)}")
        ids = self._encode(text, allowed_special, disallowed_special, "encode_into()")
        end = position + len(ids)
        if end > len(buffer):
            raise ValueError(f"encode_into(): buffer must have room for {len(ids)} ids, got {len(buffer) - position}")
        buffer[position:end] = ids
        return end

    def _dtype(self, dtype: DTypeLike, function: str) -> np.dtype[Any]:
        try:
            wanted = np.dtype(dtype)
        except TypeError:
            raise TypeError(f"{function}: dtype must be uint32 or uint16, got {show(dtype)}") from None
        if wanted == np.uint16 and self.n_vocab > 1 << 16:
            raise ValueError(f"{function}: {self.n_vocab} ids do not fit into uint16")
        if wanted not in (np.uint16, np.uint32):
            raise ValueError(f"{function}: dtype must be uint32 or uint16, got {wanted}")
        return wanted

    def encode_bytes(self, data: bytes | bytearray | memoryview) -> list[int]:
        """Return the ids of any bytes: bytes, or what has a buffer of them (bytearray, mmap, an array of uint8).

        Valid UTF-8 stretches are text, in which special tokens are ordinary text.  Each maximal run of invalid bytes is
        one pretoken; it ends the text before it, and the text after it begins afresh.
        """
        try:
            view = memoryview(data)
        except TypeError:
            raise TypeError(f"encode_bytes(): data must be bytes, got {show(data)}") from None
        if view.itemsize != 1:
            raise TypeError(f"encode_bytes(): data must have items of one byte, got {view.itemsize}")
        data = bytes(view)
        try:
            return self.encode_ordinary(data.decode())
        except UnicodeDecodeError:
            pass
        matcher = self._make_policy(frozenset(), frozenset()).matcher
        parts: list[bytes] = []
        cuts: list[list[int]] = []
        position = 0
        for valid, part in runs(data):
            if not valid:
                cuts.append([position, position + len(part), _RAW])
            elif matcher is not None or self._normalizer is not None:
                part, found = self._normalized(part, matcher.find(part)[0] if matcher else _NO_CUTS)
                cuts += [[position + start, position + end, number] for start, end, number in found.tolist()]
            parts.append(part)
            position += len(part)
        ids: list[int] = self._encoder.encode(b"".join(parts), np.array(cuts, dtype=np.int64)).tolist()
        return ids

    def encode_batch(
        self,
        texts: Iterable[str],
        *,
        allowed_special: SpecialTokens = _NOTHING,
        disallowed_special: SpecialTokens = _ALL,
        threads: int | None = None,
    ) -> list[list[int]]:
        """Return the ids of each text; as encode() on each.

        Args:
            texts: the texts; a str is not accepted as a list of its letters.
            allowed_special: as in encode().
            disallowed_special: as in encode().
            threads: 1 to 1024; None means one for each core.  The result does not depend on it.
        """
        ids, offsets = self._batch(texts, allowed_special, disallowed_special, threads, "encode_batch()")
        return self._encoder.lists(ids, offsets)  # type: ignore[no-any-return]

    def encode_batch_to_numpy(
        self,
        texts: Iterable[str],
        *,
        allowed_special: SpecialTokens = _NOTHING,
        disallowed_special: SpecialTokens = _ALL,
        threads: int | None = None,
        dtype: DTypeLike = np.uint32,
    ) -> TokenBatch:
        """Return the ids of all texts in one array, [n], and where each begins, int64 [len(texts) + 1].

        The result unpacks as `ids, offsets`; the ids of text i are `ids[offsets[i]:offsets[i + 1]]`.  Arrow libraries
        take it as it is.  dtype as in encode_to_numpy(); otherwise as encode_batch().
        """
        wanted = self._dtype(dtype, "encode_batch_to_numpy()")
        ids, offsets = self._batch(texts, allowed_special, disallowed_special, threads, "encode_batch_to_numpy()")
        return TokenBatch(ids.astype(wanted, copy=False), offsets)

    def iter_encode(
        self,
        chunks: Iterable[str] | Iterable[bytes],
        *,
        allowed_special: SpecialTokens = _NOTHING,
        disallowed_special: SpecialTokens = _ALL,
        max_pretoken_bytes: int = MAX_PRETOKEN_BYTES,
    ) -> Iterator[int]:
        """Yield the ids of a text that arrives in chunks; they do not depend on where it is cut.

        Lazy: a chunk is read when its ids are asked for.  What is held is the pretoken that more text could change.

        Args:
            chunks: all str, or all bytes (UTF-8, which may be cut inside a character; invalid bytes as in
                encode_bytes()).  One str or bytes is one chunk.
            allowed_special: as in encode().
            disallowed_special: as in encode().
            max_pretoken_bytes: how long an unfinished pretoken may grow.

        Raises:
            SpecialTokenError: as in encode(), when the text before it has been given out.
            PretokenTooLongError: a pretoken exceeds `max_pretoken_bytes`.
            TypeError: a chunk is neither str nor bytes, or both occur; the message names its index.
        """
        arrays = self._stream(chunks, allowed_special, disallowed_special, max_pretoken_bytes, "iter_encode()")
        return (number for ids in arrays for number in ids.tolist())

    def iter_encode_batches(
        self,
        chunks: Iterable[str] | Iterable[bytes],
        *,
        size: int = 65536,
        allowed_special: SpecialTokens = _NOTHING,
        disallowed_special: SpecialTokens = _ALL,
        max_pretoken_bytes: int = MAX_PRETOKEN_BYTES,
    ) -> Iterator[NDArray[np.uint32]]:
        """Yield what iter_encode() yields as arrays, uint32 [size], the last one shorter."""
        if type(size) is not int or size < 1:
            raise ValueError(f"iter_encode_batches(): size must be a positive int, got {show(size)}")
        arrays = self._stream(chunks, allowed_special, disallowed_special, max_pretoken_bytes, "iter_encode_batches()")
        return _rebatch(arrays, size)

    def count(self, text: str) -> int:
        """Return the number of ids of a text in which special tokens are ordinary text."""
        return len(self._encode(text, (), (), "count()"))

    # ---------------------------------------------------------------- ids to text

    def decode(self, ids: Ids, errors: str = "replace") -> str:
        """Return the text of ids.

        Args:
            ids: integers in a sequence or a one-dimensional array.
            errors: what to do with bytes that are not UTF-8, as in bytes.decode().

        Raises:
            TokenIdError: an id that the vocabulary does not have; TokenIdRangeError: that no vocabulary can have.
        """
        text: str = self._decoder.text(self._bytes(ids, "decode()"), errors)
        return text

    def decode_bytes(self, ids: Ids) -> bytes:
        """Return the bytes of ids; otherwise as decode()."""
        return self._bytes(ids, "decode_bytes()")

    def decode_batch(self, batch: Iterable[Ids], errors: str = "replace") -> list[str]:
        """Return the text of each sequence of ids, or of each text of a TokenBatch; as decode() on each."""
        if isinstance(batch, (str, bytes)) or not isinstance(batch, Iterable):
            raise TypeError(f"decode_batch(): batch must hold sequences of int, got {show(batch)}")
        if isinstance(batch, TokenBatch):
            batch = [batch.ids[begin:end] for begin, end in pairwise(batch.offsets.tolist())]
        return [self._decoder.text(self._bytes(ids, "decode_batch()"), errors) for ids in batch]

    def _bytes(self, ids: Ids, function: str) -> bytes:
        if type(ids) is list:
            joined: bytes | None = self._decoder.decode_list(ids)
            if joined is not None:
                return joined
        try:
            found: bytes = self._decoder.decode(id_array(ids, function))
        except TokenIdError as error:
            if isinstance(error, TokenIdRangeError):
                raise
            raise TokenIdError(f"{function}: {error}") from None
        return found

    # ---------------------------------------------------------------- special tokens

    def _policy(self, allowed: SpecialTokens, disallowed: SpecialTokens, function: str) -> _Policy:
        if isinstance(allowed, set):
            allowed = frozenset(allowed)
        if isinstance(disallowed, set):
            disallowed = frozenset(disallowed)
        try:
            return self._policies[allowed, disallowed]
        except (KeyError, TypeError):  # not seen yet, or a list
            pass
        special = frozenset(self._special)
        names = special if _is_all(allowed) else special & _texts(allowed, f"{function}: allowed_special")
        banned = special - names if _is_all(disallowed) else _texts(disallowed, f"{function}: disallowed_special")
        policy = self._policies.get((names, banned)) or self._make_policy(names, banned)
        if len(self._policies) >= 2 * _POLICIES:
            self._policies.clear()
        self._policies[names, banned] = policy
        if isinstance(allowed, (str, tuple, frozenset)) and isinstance(disallowed, (str, tuple, frozenset)):
            self._policies[allowed, disallowed] = policy  # as they were given, which says the same
        return policy

    def _make_policy(self, allowed: frozenset[str], disallowed: frozenset[str]) -> _Policy:
        forbidden = tuple(sorted(disallowed))
        tokens = {text: self._special[text] for text in allowed} | self._added
        tokens |= {text: _FORBIDDEN + at for at, text in enumerate(forbidden)}
        matcher = core.Matcher([(to_utf8(text), number) for text, number in tokens.items()]) if tokens else None
        return _Policy(matcher, forbidden)

    # ---------------------------------------------------------------- the ways into core

    def _encode(
        self,
        text: str,
        allowed: SpecialTokens,
        disallowed: SpecialTokens,
        function: str,
        check: Callable[[], object] | None = None,
        listed: bool = False,
    ) -> Any:
        """Return the ids of a text as an array, or as a list."""
        if not isinstance(text, str):
            hint = "; bytes go to encode_bytes()" if isinstance(text, (bytes, bytearray, memoryview)) else ""
            raise TypeError(f"{function}: text must be a str, got {show(text)}{hint}")
        matcher, forbidden = self._policy(allowed, disallowed, function)
        ids = self._encode_text(text, matcher, listed, check)
        if ids is not None:
            return ids
        data, cuts = to_utf8(text), None
        if matcher is not None:
            cuts, _ = matcher.find(data)
            if forbidden and len(cuts) and cuts[:, 2].max() >= _FORBIDDEN:
                start, _, number = cuts[cuts[:, 2] >= _FORBIDDEN][0].tolist()
                found = forbidden[number - _FORBIDDEN]
                raise SpecialTokenError(found, len(data[:start].decode()), known=found in self._special)
        if self._normalizer is not None:
            data, cuts = self._normalized(data, _NO_CUTS if cuts is None else cuts)
        ids = self._encoder.encode(data, cuts, check)
        return ids.tolist() if listed else ids

    def _normalized(self, data: bytes, cuts: NDArray[np.int64]) -> tuple[bytes, NDArray[np.int64]]:
        """Normalize the text between the cuts, and move them along."""
        if self._normalizer is None or data.isascii():
            return data, cuts
        moved = cuts.copy()
        parts: list[bytes] = []
        position = size = 0
        for row, (start, end, _) in enumerate(cuts.tolist()):
            parts += [nfc(data[position:start].decode()).encode(), data[start:end]]
            moved[row, 0] = size + len(parts[-2])
            moved[row, 1] = size = moved[row, 0] + end - start
            position = end
        parts.append(nfc(data[position:].decode()).encode())
        return b"".join(parts), moved

    def _stream(
        self, chunks: Any, allowed: SpecialTokens, disallowed: SpecialTokens, max_bytes: int, function: str
    ) -> Iterator[NDArray[np.uint32]]:
        if not isinstance(max_bytes, int) or max_bytes < 1:
            raise ValueError(f"{function}: max_pretoken_bytes must be a positive int, got {show(max_bytes)}")
        matcher, forbidden = self._policy(allowed, disallowed, function)
        if isinstance(chunks, (str, bytes, bytearray, memoryview)):
            chunks = (chunks,)
        elif not isinstance(chunks, Iterable):
            raise TypeError(f"{function}: chunks must be an iterable of str or bytes, got {show(chunks)}")

        def on_match(number: int, position: int) -> NDArray[np.uint32]:
            if number >= _FORBIDDEN:
                found = forbidden[number - _FORBIDDEN]
                raise SpecialTokenError(found, position, known=found in self._special)
            return np.array([number], dtype=np.uint32)

        return feed(
            chunks,
            core.EncodeStream(self._encoder),
            matcher=matcher,
            on_match=on_match,
            normalizer=self._normalizer,
            max_held=max_bytes,
            name=function,
        )

    def _batch(
        self,
        texts: Iterable[str],
        allowed: SpecialTokens,
        disallowed: SpecialTokens,
        threads: int | None,
        function: str,
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
            raise TypeError(f"{function}: texts must be an iterable of str, got {show(texts)}")
        texts = list(texts)
        for at, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"{function}: texts must hold str, got {show(text)} at index {at}")
        texts = [str.__str__(text) for text in texts]  # a subclass is its text, whatever it overrides
        check_threads(function, threads)
        threads = 1 if core.BACKEND == "python" else threads
        matcher = self._policy(allowed, disallowed, function).matcher

        def otherwise(at: int, check: Callable[[], object] | None) -> Any:
            try:
                return self._encode(texts[at], allowed, disallowed, function, check)
            except SpecialTokenError as error:
                raise SpecialTokenError(error.token, error.position, at, error.known) from None

        return encode_batch(self._encoder, texts, matcher, otherwise, threads)


class _Policy(NamedTuple):
    """What cuts the text of a call: numbers below _FORBIDDEN are ids, above it indexes of forbidden texts."""

    matcher: Any
    forbidden: tuple[str, ...]


_NO_CUTS: NDArray[np.int64] = np.empty((0, 3), dtype=np.int64)


def load(
    source: str | os.PathLike[str] | bytes,
    *,
    format: str | None = None,
    pattern: str | None = None,
    special_tokens: Mapping[str, int] | None = None,
    name: str | None = None,
    allow_regex: bool = True,
    cache_bytes: int = CACHE_BYTES,
    ids: Literal["file", "huggingface"] | None = None,
) -> Tokenizer:
    """Return the tokenizer of a vocabulary file.

    Args:
        source: a path, the bytes of a file, or a folder with vocab.json and merges.txt or with a tokenizer.json.
        format: "fbpe", "tokenizer.json", "tiktoken" or "gpt2"; None decides by the content, never by the name alone.
        pattern: the split pattern or its name in `fastbpe.patterns`.  A .tiktoken file holds none, so it is required
            there; formats that hold one do not take another.
        special_tokens: for formats that hold none: text to id.
        name: a name for the tokenizer.
        allow_regex: whether a pattern that does not compile may run on the `regex` module.
        cache_bytes: as in Tokenizer().
        ids: which ids added tokens get where the file and Hugging Face's library disagree; None refuses such files.

    Raises:
        VocabularyError: the file is not exactly understood; the message names the place.
        PatternError: the split pattern cannot be used.
        OSError: the file cannot be read.
    """
    if special_tokens is not None and not isinstance(special_tokens, Mapping):
        raise TypeError(f"load(): special_tokens must be a mapping of str to id, got {show(special_tokens)}")
    if isinstance(source, (bytes, bytearray, memoryview)):
        spec = formats.read(bytes(source), format=format, pattern=pattern, special_tokens=special_tokens, ids=ids)
    elif not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"load(): source must be a path or bytes, got {show(source)}")
    else:
        spec = formats.read_path(source, format=format, pattern=pattern, special_tokens=special_tokens, ids=ids)
    return Tokenizer(spec if name is None else spec.named(name), allow_regex=allow_regex, cache_bytes=cache_bytes)


def _unpickled(data: bytes, cache_bytes: int) -> Tokenizer:
    return Tokenizer(TokenizerSpec.from_bytes(data), cache_bytes=cache_bytes)


def get_encoding(name: str) -> Tokenizer:
    """Return a bundled encoding by name; `list_encoding_names()` gives the names.

    Raises:
        ValueError: there is no encoding of this name.
    """
    if not isinstance(name, str):
        raise TypeError(f"get_encoding(): name must be a str, got {show(name)}")
    return _encoding(name)


@lru_cache(maxsize=16)
def _encoding(name: str) -> Tokenizer:
    return Tokenizer(encodings.spec(name))


def encoding_for_model(model: str) -> Tokenizer:
    """Return the encoding of an OpenAI model, by tiktoken's table of model names.

    Raises:
        KeyError: the table has no such model.
    """
    if not isinstance(model, str):
        raise TypeError(f"encoding_for_model(): model must be a str, got {show(model)}")
    return get_encoding(encodings.name_for_model(model))


def list_encoding_names() -> list[str]:
    """Return the names of the bundled encodings."""
    return sorted(encodings.NAMES)


def check_threads(function: str, threads: int | None) -> None:
    """Raise a ValueError unless it is a number of threads, or None for that of the cores."""
    if threads is not None and (type(threads) is not int or not 1 <= threads <= MAX_THREADS):
        raise ValueError(f"{function}: threads must be 1 to {MAX_THREADS} or None, got {show(threads)}")


def make_splitter(splits: tuple[Split, ...], allow_regex: bool = True, boxes: PackedBoxes | None = None) -> Any:
    """Return what splits text: the compiled automaton, else the `regex` module.

    Raises:
        PatternError: the pattern cannot be used, or needs `regex` and that is not allowed.
    """
    steps = _steps(splits)
    try:
        return core.Splitter(compile_sequence(steps, boxes))
    except OutsideSubset as error:
        if not allow_regex:
            raise OutsideSubset(f"{error}, and allow_regex is False") from None
    return core.RegexSplitter(steps)


def _steps(splits: tuple[Split, ...]) -> tuple[tuple[str, bool], ...]:
    return tuple((split.pattern, split.gaps) for split in splits)


def _is_all(names: object) -> bool:
    return isinstance(names, str) and names == "all"


def _texts(names: object, argument: str) -> frozenset[str]:
    if isinstance(names, (str, bytes)) or not isinstance(names, Collection):
        raise TypeError(f"{argument} must be 'all' or a collection of str, got {show(names)}")
    for text in names:
        if not isinstance(text, str):
            raise TypeError(f"{argument} must hold str, got {show(text)}")
        if not text:
            raise ValueError(f"{argument} must not hold the empty text")
    return frozenset(names)


def _rebatch(arrays: Iterator[NDArray[np.uint32]], size: int) -> Iterator[NDArray[np.uint32]]:
    held: list[NDArray[np.uint32]] = []
    count = 0
    for ids in arrays:
        held.append(ids)
        count += len(ids)
        if count < size:
            continue
        joined = np.concatenate(held)
        whole = count - count % size
        for start in range(0, whole, size):
            yield joined[start : start + size].copy()
        held = [joined[whole:].copy()]
        count -= whole
    if count:
        yield np.concatenate(held)
