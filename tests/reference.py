"""The libraries that fastbpe must equal, built from our own vocabularies, so that nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

import fastbpe

if TYPE_CHECKING:
    import tiktoken


@cache
def tiktoken_encoding(name: str) -> tiktoken.Encoding:
    """Return tiktoken's encoding of this name, from the bundled ranks."""
    return tiktoken_of(fastbpe.get_encoding(name))


def tiktoken_of(tokenizer: fastbpe.Tokenizer) -> tiktoken.Encoding:
    """Return the same vocabulary as a tiktoken.Encoding."""
    import tiktoken

    return tiktoken.Encoding(
        str(tokenizer.name),
        pat_str=tokenizer.spec.splits[0].pattern,
        mergeable_ranks=dict(tokenizer.vocab),
        special_tokens=tokenizer.special_tokens,
    )


def huggingface_trained(documents: Iterable[str], vocab_size: int) -> Any:
    """Return a tokenizers.Tokenizer trained on the documents, with GPT-2's split and all bytes in its alphabet."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def byte_letters() -> dict[str, int]:
    """Return GPT-2's letter of each byte: printable ones stand for themselves, the others follow from U+0100."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in printable]
    return {chr(value): value for value in printable} | {chr(256 + n): value for n, value in enumerate(others)}
