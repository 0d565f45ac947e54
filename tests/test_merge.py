"""Merging one pretoken, both semantics, on random vocabularies: real text does not find the errors that these do.

Oracle: the definition, written out below (quadratic).
"""

from __future__ import annotations

import random

import pytest

import fastbpe
from fastbpe.pattern.automaton import compile_split

BYTES = {bytes([value]): value for value in range(256)}


def prepared(merger):
    """Let all tables be built, so that long pretokens are not merged step by step at first."""
    merger.prepare()
    return merger


def merged_by_definition(piece, vocab, merges, whole):
    """Join the best pair, the leftmost of equals, and look again."""
    if whole and piece in vocab:
        return [vocab[piece]]
    ranks = vocab if merges is None else {pair: rank for rank, pair in enumerate(merges)}
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        pairs = list(zip(parts, parts[1:]))
        found = [ranks.get(a + b if merges is None else (a, b), 1 << 40) for a, b in pairs]
        if not found or min(found) == 1 << 40:
            return [vocab[part] for part in parts]
        at = found.index(min(found))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def random_vocab(rng, alphabet):
    """Ranks: bytes anywhere, tokens of up to 9 letters in any order, so some are unreachable or out of rank order."""
    tokens = {"".join(rng.choices(alphabet, k=rng.randint(2, 9))).encode() for _ in range(rng.randint(1, 60))}
    order = [*BYTES, *tokens]
    if rng.random() < 0.5:
        rng.shuffle(order)
    holes = rng.random() < 0.3
    return {token: rank * (2 if holes else 1) for rank, token in enumerate(order)}


def random_merges(rng, alphabet):
    vocab, merges = dict(BYTES), {}
    names = [c.encode() for c in alphabet]
    for _ in range(rng.randint(1, 60)):
        left, right = rng.choice(names), rng.choice(names)
        if len(left + right) > 12:
            continue
        merges[left, right] = None
        if left + right not in vocab:
            vocab[left + right] = 1000 + len(vocab)
        names.append(left + right)
    order = list(merges)
    if rng.random() < 0.3:
        rng.shuffle(order)
    return vocab, order


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("semantics", ["ranks", "merges", "merges, whole first"])
def test_merging_equals_the_definition(core, semantics, seed):
    rng = random.Random(f"{semantics}{seed}")
    alphabet = "abcd"[: rng.randint(2, 4)]
    if semantics == "ranks":
        vocab, merges, whole = random_vocab(rng, alphabet), None, True
    else:
        (vocab, merges), whole = random_merges(rng, alphabet), semantics != "merges"
    merger = prepared(core.Merger(vocab, merges, whole))
    for length in [*range(1, 12), 20, 31, 32, 33, 63, 64, 65, 66, 130, 300]:
        for _ in range(6):
            piece = "".join(rng.choices(alphabet, k=length)).encode()
            assert merger.merge(piece) == merged_by_definition(piece, vocab, merges, whole), piece
    for token in list(vocab)[256:]:
        assert merger.merge(token) == merged_by_definition(token, vocab, merges, whole), token


# Characters of three bytes, many with bytes in common, and others: above U+2E80 and below it native code has two ways.
# Those of two bytes begin as atoms, where their neighbours allow it.
WIDE = [
    [*"中丰一丁乁がぎ国國한하", *"é a1ก", "😀"],
    [*"กขคฃเแโ่้ิी", *"é a1中", "😀"],
    [*"абвгдерстуф", *"é a1中", "😀"],
]


def wide_text(rng, length):
    kind = rng.kind if hasattr(rng, "kind") else 0
    return "".join(rng.choices(WIDE[kind], weights=[4] * 11 + [1] * 6, k=length)).encode()


def wide_ranks(rng):
    """Tokens that are any bytes of a text: they begin and end inside characters."""
    text = wide_text(rng, 200)
    cuts = [(at, at + rng.choice([2, 2, 3, 3, 4, 5, 6, 6, 7, 9, 12])) for at in rng.choices(range(len(text)), k=80)]
    order = [*BYTES, *{text[start:end] for start, end in cuts if end <= len(text)}]
    if rng.random() < 0.5:
        rng.shuffle(order)
    return {token: rank for rank, token in enumerate(order)}


def wide_merges(rng):
    """Pairs of neighbours in a text, joined as in training."""
    text = wide_text(rng, 60)
    parts = [text[at : at + 1] for at in range(len(text))]
    vocab, merges = dict(BYTES), []
    while len(merges) < 60 and len(parts) > 1:
        at = rng.randrange(len(parts) - 1)
        pair = (parts[at], parts[at + 1])
        if len(pair[0] + pair[1]) > 12 and rng.random() < 0.9:
            continue
        if pair not in merges:
            merges.append(pair)
            vocab.setdefault(pair[0] + pair[1], 1000 + len(vocab))
        at = 0
        while at < len(parts) - 1:
            if (parts[at], parts[at + 1]) == pair:
                parts[at : at + 2] = [pair[0] + pair[1]]
            at += 1
    return vocab, merges


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("semantics", ["ranks", "merges", "merges, whole first"])
def test_wide_characters_and_parts_of_them(core, semantics, seed):
    rng = random.Random(f"wide {semantics}{seed}")
    rng.kind = seed % 3
    if semantics == "ranks":
        vocab, merges, whole = wide_ranks(rng), None, True
    else:
        (vocab, merges), whole = wide_merges(rng), semantics != "merges"
    merger = prepared(core.Merger(vocab, merges, whole))
    for length in [*range(1, 12), 20, 40, 90]:
        for _ in range(8):
            piece = wide_text(rng, length)
            assert merger.merge(piece) == merged_by_definition(piece, vocab, merges, whole), piece
            start = rng.randrange(len(piece))
            cut = piece[start : start + rng.randint(1, 40)]  # no UTF-8 any more
            assert merger.merge(cut) == merged_by_definition(cut, vocab, merges, whole), cut


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("order", ["shuffled", "by length"])
def test_runs_of_one_byte(core, order, seed):
    """Rulers and indentation: native code joins all pairs of a run at once."""
    rng = random.Random(f"runs {order}{seed}")
    alphabet = "abc"[: rng.randint(1, 3)]

    def text(runs):
        lengths = [1, 2, 3, 5, 8, 9, 17, 30, 33, 64, 100]
        return "".join(rng.choice(alphabet) * rng.choice(lengths) for _ in range(runs)).encode()

    tokens = {text(rng.randint(1, 3))[: rng.choice([2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 20, 32])] for _ in range(60)}
    tokens = sorted(token for token in tokens if len(token) > 1)
    rng.shuffle(tokens)
    if order == "by length":
        tokens.sort(key=len)
    vocab = {token: rank for rank, token in enumerate([*BYTES, *tokens])}
    merger = prepared(core.Merger(vocab, None, True))
    for _ in range(12):
        piece = text(rng.randint(1, 9))
        assert merger.merge(piece) == merged_by_definition(piece, vocab, None, True), piece


@pytest.mark.parametrize("seed", range(18))
@pytest.mark.parametrize("semantics", ["ranks", "merges", "merges, whole first", "wide ranks", "wide merges"])
def test_words_of_a_text(core, semantics, seed):
    """Through the table of pretokens: new, repeated, pushed out; short and long; with few ids and with many."""
    rng = random.Random(f"words {semantics}{seed}")
    rng.kind = seed % 3
    alphabet = "abcd"[: rng.randint(2, 4)]
    if semantics.startswith("wide"):
        word = lambda longest: wide_text(rng, rng.randint(1, longest)).decode().replace(" ", "a")  # noqa: E731
        vocab, merges, whole = wide_ranks(rng), None, True
        if semantics == "wide merges":
            (vocab, merges), whole = wide_merges(rng), False
    else:
        word = lambda longest: "".join(rng.choices(alphabet, k=rng.randint(1, longest)))  # noqa: E731
        vocab, merges, whole = random_vocab(rng, alphabet), None, True
        if semantics != "ranks":
            (vocab, merges), whole = random_merges(rng, alphabet), semantics != "merges"
    splitter = core.Splitter(compile_split("[^ ]+| ", True))
    encoder = core.Encoder(splitter, prepared(core.Merger(vocab, merges, whole)))
    words = [word(rng.choice([3, 8, 15, 16, 17, 31, 32, 33, 60])) for _ in range(150)]
    ids = {one: merged_by_definition(one.encode(), vocab, merges, whole) for one in [*words, " "]}
    for _ in range(3):
        text = rng.choices(words, k=rng.choice([1, 30, 400]))
        expected = [number for at, one in enumerate(text) for number in ([] if at == 0 else ids[" "]) + ids[one]]
        assert encoder.encode(" ".join(text).encode()).tolist() == expected


def test_id_order_does_not_make_a_list_of_ranks(core):
    """Ranks give `abc`; the list, in which only (a, bc) makes it, gives `ab c`."""
    vocab = {**BYTES, b"ab": 256, b"bc": 257, b"abc": 258}
    merges = [(b"a", b"b"), (b"b", b"c"), (b"a", b"bc")]
    assert prepared(core.Merger(vocab, merges, False)).merge(b"abc") == [256, ord("c")]
    assert prepared(core.Merger(vocab, merges, True)).merge(b"abc") == [258]
    assert prepared(core.Merger(vocab, None, True)).merge(b"xabc") == [ord("x"), 258]


def test_bytes_outside_ascii_and_nul(core):
    vocab = {**BYTES, b"\0\xff": 300, b"\0\xff\0\xff": 301}
    assert prepared(core.Merger(vocab, None, True)).merge(b"\0\xff" * 3) == [301, 300]
    assert prepared(core.Merger(vocab, None, True)).merge(b"") == []


def test_an_empty_token_is_never_produced(core):
    vocab = {**BYTES, b"": 256, b"ab": 257}
    assert prepared(core.Merger(vocab, None, True)).merge(b"abab" * 40) == [257] * 80


@pytest.mark.parametrize("name", ["gpt2", "o200k_base"])
def test_any_bytes_with_a_real_vocabulary(core, name):
    """Overlong forms, surrogates and cut characters as one pretoken.  Oracle: the definition."""
    vocab, rng = fastbpe.get_encoding(name).vocab, random.Random(name)
    merger = prepared(core.Merger(vocab, None, True))
    kinds = [b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xe4"]
    kinds += [text.encode() for text in [" the", "中", "文", "д", "é", " ก", "ี่", "😀"]]
    for _ in range(150):
        piece = b"".join(rng.choices([*kinds, rng.randbytes(1), rng.randbytes(3)], k=rng.randint(1, 40)))
        assert merger.merge(piece) == merged_by_definition(piece, vocab, None, True), piece


def test_a_vocabulary_made_to_hurt(core):
    """Hundreds of tokens that are prefixes of each other, in any order of ranks: as fast and exact as any."""
    rng = random.Random(5)
    lengths = list(range(2, 300))
    rng.shuffle(lengths)
    vocab = {**BYTES, **{b"a" * length: 256 + rank for rank, length in enumerate(lengths)}}
    merger = prepared(core.Merger(vocab, None, True))
    for size in (700, 1000):
        piece = b"a" * size + b"b" + b"a" * size
        assert merger.merge(piece) == merged_by_definition(piece, vocab, None, True)


def test_long_repetition(core):
    vocab = {**BYTES, **{b"a" * (1 << k): 255 + k for k in range(1, 7)}}
    assert prepared(core.Merger(vocab, None, True)).merge(b"a" * 1000) == [261] * 15 + [260, 258]


@pytest.mark.parametrize("seed", range(20))
def test_before_the_tables_and_with_them(core, seed):
    """The first long pretokens are merged step by step, until there have been enough of them; then what begins with a
    character is sorted when it is first met.
    """
    rng = random.Random(seed)
    rng.kind = seed % 3
    vocab, merges, whole = wide_ranks(rng), None, True
    if seed % 2:
        (vocab, merges), whole = wide_merges(rng), False
    merger, ready = core.Merger(vocab, merges, whole), prepared(core.Merger(vocab, merges, whole))
    for length in [3, 9, 40, 70, 300] * 20 + [3000] * 12 + [3, 9, 40, 70, 300] * 40:
        piece = wide_text(rng, length)
        assert merger.merge(piece) == ready.merge(piece)
