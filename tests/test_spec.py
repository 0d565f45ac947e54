"""TokenizerSpec and its file.  Oracle: the rules of a definition, written out case by case; a fresh process."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
import time
import zlib

import pytest

from fastbpe.errors import LimitError, VocabularyError
from fastbpe.spec import (
    MAGIC,
    MAX_UNPACKED,
    AddedToken,
    Split,
    TokenizerSpec,
    pack_tokens,
    pack_vocab,
    parse_json,
    unpack_tokens,
    unpack_vocab,
)

BYTES = {bytes([value]): value for value in range(256)}
VOCAB = BYTES | {b"ab": 256, b"abc": 257}
MERGES = ((b"a", b"b"), (b"ab", b"c"))
SPLITS = (Split(r"\S+|\s+"),)


def small(**changes):
    fields = {
        "splits": SPLITS,
        "vocab": VOCAB,
        "merges": MERGES,
        "whole": False,
        "added_tokens": (AddedToken("<|end|>", 258), AddedToken("</think>", 259, special=False)),
        "normalizer": "NFC",
        "post_processor": '{"type":"ByteLevel"}',
        "name": "small",
        "provenance": {"documents": 3, "files": ["a"]},
        "boxes": ("0001", "ff" * 80, "ff"),
    }
    return TokenizerSpec(**(fields | changes))


DIFFERENT = [
    {"splits": (Split(r"\S+"),)},
    {"splits": (Split(SPLITS[0].pattern, gaps=False),)},
    {"splits": SPLITS * 2},
    {"vocab": VOCAB | {b"abc": 300}},
    {"vocab": VOCAB | {b"abcd": 300}},
    {"merges": MERGES[::-1]},
    {"merges": MERGES[:1]},
    {"merges": None, "whole": True},
    {"whole": True},
    {"added_tokens": ()},
    {"added_tokens": (AddedToken("<|end|>", 258), AddedToken("</think>", 259))},
    {"normalizer": None},
    {"post_processor": None},
]


def test_equal_definitions_are_equal_whatever_order_name_and_provenance():
    other = small(name="other", provenance=None, vocab=dict(reversed(VOCAB.items())))
    assert other == small() and hash(other) == hash(small()) and other.fingerprint == small().fingerprint
    assert list(other.vocab.items()) == list(small().vocab.items())  # in the order of ids
    assert small().named("other").name == "other" and small().named("other") == small()


@pytest.mark.parametrize("changes", DIFFERENT)
def test_any_other_field_makes_another_definition(changes):
    assert small(**changes) != small()
    assert small(**changes).fingerprint != small().fingerprint
    assert TokenizerSpec.from_bytes(small(**changes).to_bytes()) == small(**changes)


def test_fingerprint_is_that_of_other_processes_and_versions():
    code = "from tests.test_spec import small; print(small().fingerprint)"
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert run.stdout.strip() == small().fingerprint
    # Frozen: a change of this value is a change of every published fingerprint.
    assert small().fingerprint == "97e3e6fc80387c4382d2fc1096e6d7717fdf23620b67cdfe75f3a539461da71e"


def test_file_and_pickle_carry_everything():
    spec = small()
    for again in (TokenizerSpec.from_bytes(spec.to_bytes()), pickle.loads(pickle.dumps(spec)), copy.deepcopy(spec)):
        assert again == spec
        for name in ("vocab", "merges", "splits", "added_tokens", "whole", "normalizer", "post_processor"):
            assert getattr(again, name) == getattr(spec, name)
        for name in ("name", "boxes"):
            assert getattr(again, name) == getattr(spec, name)
        assert dict(again.provenance) == {"documents": 3, "files": ["a"]}
    assert spec.n_vocab == 260 and spec.special_tokens == {"<|end|>": 258}


def test_spec_is_immutable():
    given = dict(VOCAB)
    spec = small(vocab=given)
    given[b"zz"] = 999
    with pytest.raises(TypeError):
        spec.vocab[b"zz"] = 999
    with pytest.raises(AttributeError):
        spec.name = "x"
    assert spec == small()


FAULTS = [
    ({"vocab": {token: id for token, id in VOCAB.items() if token != b"q"}}, "single byte b'q'"),
    ({"vocab": VOCAB | {b"x": 97}}, "id 97 appears twice: b'a' and b'x'"),
    ({"vocab": VOCAB | {b"ab": -1}}, "not negative, got int -1"),
    ({"vocab": VOCAB | {b"ab": True}}, "must be an int that is not negative, got bool True"),
    ({"vocab": VOCAB | {b"ab": 3.0}}, "got float 3.0"),
    ({"vocab": VOCAB | {"ab": 300}}, "must be bytes, got 'ab'"),
    ({"vocab": VOCAB | {b"ab": 1 << 24}}, "exceeds"),
    ({"vocab": VOCAB | {b"ab": 65_536 + 4 * 260 + 1}}, "exceeds 66576"),
    ({"vocab": VOCAB | {b"ab": 10**5000}}, "exceeds"),
    ({"vocab": VOCAB | {b"a" * 65_537: 300}}, "a token of 65537 bytes exceeds 65536"),
    ({"merges": ((b"a", b"z"),)}, "merges[0]: the result b'az' is not a token"),
    ({"merges": (*MERGES, (b"xy", b"c"))}, "merges[2]: the part b'xy' is not a token"),
    ({"merges": ((b"", b"a"),)}, "merges[0]: a part is empty"),
    ({"merges": (*MERGES, MERGES[0])}, "merges[2]: (b'a', b'b') stands at 0 already"),
    ({"merges": ((b"a", b"b", b"c"),)}, "must be a pair of bytes"),
    ({"merges": (("a", "b"),)}, "must be a pair of bytes"),
    ({"merges": ([b"a", b"b"],)}, "must be a pair of bytes"),
    ({"merges": ((b"a", [b"b"]),)}, "must be a pair of bytes"),
    ({"merges": None, "whole": False}, "whole: must be true without merges"),
    ({"added_tokens": (AddedToken("", 300),)}, "added_tokens[0]: the content must be text that is not empty"),
    ({"added_tokens": (AddedToken("\ud800", 300),)}, "added_tokens[0]: the content must be text"),
    ({"added_tokens": (AddedToken("<a>", 97),)}, "id 97 of '<a>' is that of the token b'a'"),
    ({"added_tokens": (AddedToken("<a>", 300), AddedToken("<a>", 301))}, "'<a>' stands at 0 already"),
    ({"added_tokens": (AddedToken("<a>", 300), AddedToken("<b>", 300, special=False))}, "that of '<a>' already"),
    ({"added_tokens": (AddedToken("<a>", -1),)}, "not negative"),
    ({"added_tokens": (AddedToken("<a>", 1 << 24),)}, "exceeds"),
    ({"splits": ()}, "splits: at least one split is needed"),
    ({"splits": (Split(""),)}, "splits[0]: a pattern must be text"),
    ({"normalizer": "NFKC"}, "normalizer: 'NFKC' is not supported"),
    ({"unicode_version": "15.0.0"}, "unicode_version: must be '16.0.0'"),
    ({"post_processor": "["}, "not JSON"),
]


@pytest.mark.parametrize(("changes", "message"), FAULTS)
def test_inconsistent_definitions_are_refused_with_the_culprit(changes, message):
    with pytest.raises(VocabularyError) as caught:
        small(**changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"name": 3}, {"whole": 1}, {"splits": ("a",)}, {"added_tokens": ("<a>",)}])
def test_wrong_types_are_type_errors(changes):
    with pytest.raises(TypeError, match="TokenizerSpec"):
        small(**changes)


def test_what_published_files_need_is_allowed():
    assert small(vocab=VOCAB | {b"": 300}).vocab[b""] == 300  # Whisper
    shared = small(added_tokens=(AddedToken("<a>", 300), AddedToken("<b>", 300)))  # o200k_harmony
    assert TokenizerSpec.from_bytes(shared.to_bytes()).added_tokens == shared.added_tokens
    assert small(added_tokens=(AddedToken("abc", 300),)) != small(added_tokens=(AddedToken("abc", 257),))


def test_checks_are_fast_for_200_000_tokens():
    vocab = BYTES | {index.to_bytes(6, "little"): index for index in range(256, 200_000)}
    times = []
    for _ in range(3):
        start = time.process_time()
        TokenizerSpec(splits=SPLITS, vocab=vocab)
        times.append(time.process_time() - start)
    assert min(times) < 0.5  # 0.05 s measured


def test_packing_inverts():
    tokens = [b"", b"a", b"\xff" * 65_536, b"a"]
    assert unpack_tokens(pack_tokens(tokens)) == tokens
    assert unpack_tokens(pack_tokens([])) == []
    assert unpack_vocab(pack_vocab({b"b": 9, b"": 3, b"a": 0})) == {b"a": 0, b"": 3, b"b": 9}


@pytest.mark.parametrize("cut", [0, 3, 4, 11, 12, 15])
def test_packed_lengths_are_checked(cut):
    data = pack_tokens([b"abc", b"d"])
    for wrong in (data[:cut], data + b"x", b"\xff\xff\xff\xff" + data[4:], data[:4] + b"\xff\xff\xff\xff" + data[8:]):
        with pytest.raises(VocabularyError):
            unpack_tokens(wrong)


def test_every_cut_and_every_damaged_byte_of_the_file_is_refused():
    data = small(provenance=None).to_bytes()
    for index in range(len(data)):
        with pytest.raises(VocabularyError):
            TokenizerSpec.from_bytes(data[:index])
        with pytest.raises(VocabularyError):
            TokenizerSpec.from_bytes(data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :])
    with pytest.raises(VocabularyError, match="cut, or joined"):
        TokenizerSpec.from_bytes(data + b"\0")


def signed(data):
    return data + hashlib.sha256(data).digest()


@pytest.mark.parametrize("seed", range(4))
def test_damage_under_a_right_checksum_never_escapes_as_another_error(seed):
    rng = random.Random(seed)
    data = small().to_bytes()[:-32]
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(len(MAGIC), len(changed))] = rng.randrange(256)
        try:
            spec = TokenizerSpec.from_bytes(signed(bytes(changed)))
        except VocabularyError:
            continue
        assert TokenizerSpec.from_bytes(spec.to_bytes()) == spec


def test_a_decompression_bomb_stays_small():
    bomb = zlib.compress(b"\0" * (32 << 20))
    header = small().to_bytes()[: 8 + 4 + 48]
    for size in (100, MAX_UNPACKED + 1):
        lengths = [0, len(bomb), 0, 0, size, 0]
        head = header[:12] + b"".join(length.to_bytes(8, "little") for length in lengths)
        with pytest.raises(VocabularyError) as caught:
            TokenizerSpec.from_bytes(signed(head + bomb))
        assert isinstance(caught.value, LimitError) == (size > MAX_UNPACKED)


def test_a_newer_version_is_named():
    data = small().to_bytes()[:-32]
    with pytest.raises(VocabularyError, match="version 2 .* newer fastbpe"):
        TokenizerSpec.from_bytes(signed(data[:8] + b"\x02" + data[9:]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a":1,\n"a":2}', "the key 'a' appears twice"),
        (b'{"a":NaN}', "NaN is not a JSON number"),
        (b"{} {}", "Extra data"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"1" * 5000, "not readable JSON" if sys.version_info >= (3, 11) else None),
    ],
)
def test_json_is_read_strictly(data, message):
    if message is None:
        pytest.skip("this Python has no limit for the digits of an integer")
    with pytest.raises(VocabularyError, match=message):
        parse_json(data)


@pytest.mark.parametrize(("opening", "closing", "levels"), [("[", "]", 1), ('{"a":', "}", 1), ('[{"]]":', "}]", 2)])
def test_deep_json_is_refused_before_it_is_parsed(opening, closing, levels):
    def nested(times):
        return (opening * times + '"\\"["' + closing * times).encode()

    assert json.dumps(parse_json(nested(64 // levels)))
    for data in (nested(64 // levels + 1), nested(100_000), (opening * 1_000_000).encode()):
        with pytest.raises(LimitError):
            parse_json(data)
