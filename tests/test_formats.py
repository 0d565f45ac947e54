"""Vocabulary files.  Oracles: `tokenizers` and `tiktoken` reading the same bytes; faults written out case by case."""

from __future__ import annotations

import base64
import copy
import json
import os
import random

import pytest

from fastbpe import encodings, formats
from fastbpe.errors import LimitError, UnsupportedError, VocabularyError
from fastbpe.formats import gpt2, huggingface, tiktoken
from fastbpe.pattern.named import CL100K, DEEPSEEK, GPT2, LLAMA3, PATTERNS, QWEN2, R50K
from fastbpe.spec import AddedToken, Split, TokenizerSpec
from tests.reference import tiktoken_encoding

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")

BYTES = {bytes([value]): value for value in range(256)}
TEXT = "Hello there's  123456 the\n\n theatre?! caf\u00e9 cafe\u0301 \u4e2d\u6587\u3042 <|end|> x</t>\r\n  tail  \n "


def trained(seed=0, size=60):
    """A vocabulary as training makes it: bytes, then merges of pairs that stand side by side, here chosen at random."""
    rng = random.Random(seed)
    tokens, merges = list(BYTES), []
    parts = [bytes([value]) for value in TEXT.replace("<|end|>", "").replace("</t>", "").encode()]
    while len(merges) < size:
        at = rng.randrange(len(parts) - 1)
        pair = parts[at], parts[at + 1]
        if pair[0] + pair[1] in tokens:
            continue
        merges.append(pair)
        tokens.append(pair[0] + pair[1])
        for index in range(len(parts) - 2, -1, -1):
            if tuple(parts[index : index + 2]) == pair:
                parts[index : index + 2] = [tokens[-1]]
    return {token: id for id, token in enumerate(tokens)}, tuple(merges)


def spec_of(pattern=LLAMA3, gaps=True, seed=0, **changes):
    vocab, merges = trained(seed)
    patterns = (pattern,) if isinstance(pattern, str) else pattern
    fields = {
        "splits": tuple(Split(step, gaps) for step in patterns),
        "vocab": vocab,
        "merges": merges,
        "whole": False,
        "added_tokens": (AddedToken("<|end|>", 316), AddedToken("</t>", 317, special=False)),
    }
    return TokenizerSpec(**(fields | changes))


def owner(data):
    return tokenizers.Tokenizer.from_str(data.decode())


# tokenizer.json


@pytest.mark.parametrize("pattern", [GPT2, LLAMA3, QWEN2, DEEPSEEK], ids=["gpt2", "llama3", "qwen2", "deepseek"])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("normalizer", [None, "NFC"])
def test_tokenizer_json_round_trip(pattern, whole, normalizer):
    spec = spec_of(pattern, whole=whole, normalizer=normalizer)
    data = formats.write(spec, "tokenizer.json")
    assert formats.read(data) == spec
    tok = owner(data)
    assert {token.content: id for id, token in tok.get_added_tokens_decoder().items()} == {"<|end|>": 316, "</t>": 317}
    assert tok.get_vocab_size() == spec.n_vocab and tok.decode(tok.encode(TEXT).ids, skip_special_tokens=False)
    # The owner's own writing of it is read as the same definition.
    assert formats.read(tok.to_str().encode()) == spec
    assert formats.read(tok.to_str(pretty=True).encode()) == spec


def test_removed_and_invert_drops_what_the_pattern_leaves():
    data = formats.write(spec_of(r"\p{L}+", gaps=False), "tokenizer.json")
    assert formats.read(data).splits == (Split(r"\p{L}+", gaps=False),)
    assert owner(data).decode(owner(data).encode("a1b").ids) == "ab"


@pytest.mark.parametrize("name", ["r50k_base", "p50k_edit"])
def test_ranks_written_as_merges_give_the_same_ids(name, samples):
    spec = encodings.spec(name)
    tok, reference = owner(formats.write(spec, "tokenizer.json")), tiktoken_encoding(name)
    for text in [TEXT, "x\n  ", *(documents[0][:5000] for documents in samples.values())]:
        assert tok.encode(text).ids == reference.encode(text, allowed_special="all")
    assert {content: tok.token_to_id(content) for content in spec.special_tokens} == spec.special_tokens


@pytest.mark.parametrize("seed", range(8))
def test_one_pair_for_each_token_serves_ranks(seed):
    # Few letters and many overlaps: a token here has several splits into tokens, and some are never reached.
    import tiktoken as peer

    rng = random.Random(seed)
    words = {bytes(rng.choices(b"aab", k=rng.randint(2, 5))) for _ in range(14)}
    vocab = BYTES | {word: 256 + index for index, word in enumerate(rng.sample(sorted(words), len(words)))}
    spec = TokenizerSpec(splits=(Split(r"\S+|\s+"),), vocab=vocab)
    tok = owner(formats.write(spec, "tokenizer.json"))
    reference = peer.Encoding("x", pat_str=r"\S+|\s+", mergeable_ranks=dict(vocab), special_tokens={})
    for _ in range(200):
        text = "".join(rng.choices("aab", k=rng.randint(1, 20)))
        assert tok.encode(text).ids == reference.encode_ordinary(text), text


@pytest.mark.parametrize("path", ["model.ignore_merges", "model.merges", "model.type"])
def test_absent_and_other_spellings(path):
    # GPT-2's file has no model.type and no ignore_merges; newer files list merges as pairs.
    value = json.loads(formats.write(spec_of(GPT2), "tokenizer.json"))
    if path == "model.merges":
        value["model"]["merges"] = [merge.split(" ") for merge in value["model"]["merges"]]
    else:
        del value["model"][path.removeprefix("model.")]
    assert huggingface.from_json(value) == spec_of(GPT2)
    del value["pre_tokenizer"]["use_regex"]
    assert huggingface.from_json(value) == spec_of(GPT2)


def plain():
    return json.loads(formats.write(spec_of(), "tokenizer.json"))


def split_of(regex, **fields):
    step = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False} | fields
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [step, byte_level]}


SPLIT = "pre_tokenizer.pretokenizers[0]"
UNSUPPORTED = [
    ("truncation", {"max_length": 5}, "truncation"),
    ("padding", {}, "padding"),
    ("version", "2.0", "version"),
    ("zork", None, "zork"),
    ("normalizer", {"type": "NFKC"}, "normalizer"),
    ("normalizer", {"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}, "normalizer.normalizers[0]"),
    ("pre_tokenizer", None, "pre_tokenizer"),
    ("pre_tokenizer", {"type": "Whitespace"}, "pre_tokenizer"),
    ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": True}, "pre_tokenizer.add_prefix_space"),
    ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}, "pre_tokenizer"),
    ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": False, "zork": 1}, "pre_tokenizer.zork"),
    ("pre_tokenizer", split_of("a", behavior="Contiguous"), f"{SPLIT}.behavior"),
    ("pre_tokenizer", split_of("a", behavior="Removed"), f"{SPLIT}.behavior"),
    ("pre_tokenizer", split_of("a", pattern={"String": " "}), f"{SPLIT}.pattern.String"),
    ("pre_tokenizer", split_of(r"\s+$"), f"{SPLIT}.pattern.Regex"),
    ("pre_tokenizer", split_of(r"^\s+"), f"{SPLIT}.pattern.Regex"),
    ("pre_tokenizer", split_of(r"\p{N}{1,3}+"), f"{SPLIT}.pattern.Regex"),
    ("pre_tokenizer", split_of(r"a{3}?"), f"{SPLIT}.pattern.Regex"),
    ("pre_tokenizer", split_of(r"\h"), f"{SPLIT}.pattern.Regex"),
    ("pre_tokenizer", split_of(r"(?m)."), f"{SPLIT}.pattern.Regex"),
    ("decoder", {"type": "Metaspace"}, "decoder"),
    ("post_processor", {"type": "BertProcessing"}, "post_processor"),
    ("post_processor", {"type": "ByteLevel", "zork": 1}, "post_processor.zork"),
    ("post_processor", {"type": "Sequence", "processors": [{"type": "Z"}]}, "post_processor.processors[0]"),
    ("model.type", "WordPiece", "model.type"),
    ("model.dropout", 0.1, "model.dropout"),
    ("model.unk_token", "<unk>", "model.unk_token"),
    ("model.fuse_unk", True, "model.fuse_unk"),
    ("model.byte_fallback", True, "model.byte_fallback"),
    ("model.end_of_word_suffix", "</w>", "model.end_of_word_suffix"),
    ("model.continuing_subword_prefix", "##", "model.continuing_subword_prefix"),
    ("model.zork", 1, "model.zork"),
    ("added_tokens.0.lstrip", True, "added_tokens[0].lstrip"),
    ("added_tokens.0.rstrip", True, "added_tokens[0].rstrip"),
    ("added_tokens.0.single_word", True, "added_tokens[0].single_word"),
    ("added_tokens.0.zork", 1, "added_tokens[0].zork"),
]
FAULTY = [
    ("model.vocab.A", "x", "model.vocab"),
    ("model.vocab.A", True, "model.vocab"),
    ("model.vocab.A", 1.0, "model.vocab"),
    ("model.vocab.A", 66, "vocab"),
    ("model.vocab.\u4e2d", 400, "model.vocab"),
    ("model.merges.0", "a", "model.merges[0]"),
    ("model.merges.0", ["a"], "model.merges[0]"),
    ("model.merges.0", "a  b", "model.merges[0]"),
    ("model.merges.0", "a zz", "model.merges[0]"),
    ("model.merges.0", None, "model.merges[0]"),
    ("model.merges.0", ["a", 1], "model.merges[0]"),
    ("model.ignore_merges", 1, "model.ignore_merges"),
    ("model.vocab", [], "model.vocab"),
    ("added_tokens.0.content", "", "added_tokens[0]"),
    ("added_tokens.0.id", 65, "added_tokens[0]"),
    ("added_tokens.0.id", 1.5, "added_tokens[0].id"),
    ("added_tokens.1.content", "<|end|>", "added_tokens[1]"),
    ("added_tokens.0", 5, "added_tokens[0]"),
]


def changed(place, new):
    value = plain()
    *parents, last = place.split(".")
    target = value
    for name in parents:
        target = target[int(name)] if isinstance(target, list) else target[name]
    target[int(last) if isinstance(target, list) else last] = new
    return json.dumps(value).encode()


@pytest.mark.parametrize(("place", "new", "key"), UNSUPPORTED)
def test_what_is_not_honoured_is_refused_by_its_path(place, new, key):
    with pytest.raises(UnsupportedError) as caught:
        formats.read(changed(place, new), path="folder/tokenizer.json")
    assert caught.value.key == key and str(caught.value).startswith(f"folder/tokenizer.json:{key}: ")


@pytest.mark.parametrize(("place", "new", "key"), FAULTY)
def test_faults_are_refused_by_their_path(place, new, key):
    with pytest.raises(VocabularyError) as caught:
        formats.read(changed(place, new), ids="file")
    assert caught.value.key == key and not isinstance(caught.value, UnsupportedError), caught.value


def test_normalized_added_token_needs_no_normalizer():
    value = plain()
    value["added_tokens"][0]["normalized"] = True
    assert huggingface.from_json(value).added_tokens[0].normalized
    value["normalizer"] = {"type": "NFC"}
    with pytest.raises(UnsupportedError, match=r"added_tokens\[0\].normalized"):
        huggingface.from_json(value)
    value["added_tokens"][0]["normalized"] = False
    assert huggingface.from_json(value).normalizer == "NFC"
    value["normalizer"] = {"type": "Sequence", "normalizers": []}
    assert huggingface.from_json(value).normalizer is None


def test_post_processor_is_carried_and_written_back():
    value = plain()
    bos = {"<|end|>": {"id": "<|end|>", "ids": [316], "tokens": ["<|end|>"]}}
    single = [{"SpecialToken": {"id": "<|end|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": bos}
    value["post_processor"] = {"type": "Sequence", "processors": [{"type": "ByteLevel", "use_regex": True}, template]}
    spec = huggingface.from_json(value)
    assert json.loads(huggingface.write(spec))["post_processor"] == value["post_processor"]


def with_hole(in_vocab):
    value = plain()
    value["added_tokens"] = [copy.deepcopy(value["added_tokens"][0]) | {"id": 400}]
    if in_vocab is not None:
        value["model"]["vocab"]["<|end|>"] = in_vocab
    return value


@pytest.mark.parametrize("in_vocab", [None, 350])
def test_renumbered_added_token_is_refused_unless_told(in_vocab):
    value = with_hole(in_vocab)
    with pytest.raises(VocabularyError, match=r'added_tokens\[0\].id: .*ids="file".*ids="huggingface"'):
        huggingface.from_json(value)
    # "file" leaves the vocabulary's entry of the same spelling an ordinary token.
    assert huggingface.from_json(value, ids="file").special_tokens == {"<|end|>": 400}
    followed = huggingface.from_json(value, ids="huggingface").special_tokens["<|end|>"]
    assert followed == owner(json.dumps(value).encode()).token_to_id("<|end|>") == (in_vocab or 316)


@pytest.mark.parametrize("seed", range(40))
def test_numbers_are_those_of_the_owner(seed):
    rng = random.Random(seed)
    value = plain()
    names = ["<a>", "<b>", "<c>", "<d>"]
    for name in rng.sample(names, rng.randint(0, 2)):
        value["model"]["vocab"][name] = rng.randrange(320, 340) + 20 * len(value["model"]["vocab"])
    fields = value["added_tokens"][0]
    value["added_tokens"] = [fields | {"content": name, "id": rng.randrange(500)} for name in rng.sample(names, 3)]
    tok = owner(json.dumps(value).encode())
    spec = huggingface.from_json(value, ids="huggingface")
    assert spec.special_tokens == {name: tok.token_to_id(name) for name in spec.special_tokens}


def test_added_token_that_is_listed_in_the_vocabulary_is_not_an_ordinary_token():
    spec = huggingface.from_json(with_hole(400))
    assert spec.special_tokens == {"<|end|>": 400} and b"<|end|>" not in spec.vocab
    assert huggingface.read(huggingface.write(spec)) == spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splits": (Split(r"\s++\s|\S++|\s"),)}, "splits[0]: no equal pattern is known"),
        ({"added_tokens": (AddedToken("the", 316),), "vocab": None}, "would not be told from the ordinary token"),
        ({"added_tokens": (AddedToken("<a>", 316), AddedToken("<b>", 316))}, "shares its id"),
    ],
)
def test_writer_refuses_what_the_owner_cannot_hold(changes, message):
    if "vocab" in changes:
        changes = changes | {"vocab": trained()[0] | {b"the": 900}}
    with pytest.raises(UnsupportedError) as caught:
        formats.write(spec_of(**changes), "tokenizer.json")
    assert message in str(caught.value)


def test_end_of_text_is_translated_for_the_owner():
    tok = owner(formats.write(spec_of(CL100K, gaps=False), "tokenizer.json"))
    reference = owner(formats.write(spec_of(LLAMA3), "tokenizer.json"))
    pretokens = [piece for piece, _ in tok.pre_tokenizer.pre_tokenize_str("x\n  ")]
    assert pretokens == ["x", "\u010a\u0120\u0120"]  # tiktoken's pattern; a line end would give x, \n, two spaces
    assert [piece for piece, _ in reference.pre_tokenizer.pre_tokenize_str("x\n  ")] == ["x", "\u010a", "\u0120\u0120"]


# .tiktoken


def rank_lines(vocab=None):
    items = (vocab or trained()[0]).items()
    return [b"%b %d" % (base64.b64encode(token) or b"=", rank) for token, rank in items]


def test_rank_file_is_read_in_any_order_and_with_any_line_end():
    lines = rank_lines()
    expected = tiktoken.read(b"\n".join(lines) + b"\n", splits=[Split(CL100K, gaps=False)])
    random.Random(1).shuffle(lines)
    for data in (b"\n".join(lines), b"\r\n".join(lines), b"\n".join(lines) + b"\n", b"\r\n".join(lines) + b"\r\n"):
        assert formats.read(data, pattern="cl100k") == expected
    assert dict(expected.vocab) == trained()[0] and expected.merges is None


def test_rank_file_of_an_encoding_is_the_encoding():
    spec = encodings.spec("r50k_base")
    data = formats.write(spec, "tiktoken")
    assert formats.read(data, pattern="r50k", special_tokens=spec.special_tokens, path="r50k_base.tiktoken") == spec
    with pytest.raises(VocabularyError, match="not the published r50k_base"):
        formats.read(data[: data.rindex(b"\n", 0, -1) + 1], pattern="r50k", path="x/r50k_base.tiktoken")


def test_pattern_is_required():
    with pytest.raises(ValueError, match=r"pattern is required, .* cl100k, ") as caught:
        formats.read(b"\n".join(rank_lines()))
    assert not isinstance(caught.value, VocabularyError)
    with pytest.raises(ValueError, match="must be a regular expression or one of .* got 'cl100k_base'"):
        formats.read(b"\n".join(rank_lines()), pattern="cl100k_base")
    for name, steps in PATTERNS.items():
        spec = formats.read(b"\n".join(rank_lines()), pattern=name)
        assert [split.pattern for split in spec.splits] == ([steps] if isinstance(steps, str) else list(steps))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "must be 'BASE64 RANK', got b''"),
        (b"YWI=", "must be"),
        (b"YWI= 300 1", "must be"),
        (b"YWI=  300", "must be"),
        (b"YWI=\t300", "must be"),
        (b"YWI= -1", "must be"),
        (b"YWI= +1", "must be"),
        (b"YWI= 1_0", "must be"),
        (b"YWI= 0300", "must be"),
        ("YWI= \u0663".encode(), "must be"),
        (b"YWI= 30\x000", "must be"),
        (b"YWI= 300\r\r", "must be"),
        (b"Y\xc3\xa9I= 300", "must be"),
        (b"Y-I= 300", "must be"),
        (b"YWI 300", "not base64"),
        (b"YWJ= 300", "not canonical base64"),
        (b"YWI== 300", "base64"),
        (b"YQ== 300", "the token of line 98 again"),
        (b"YWI= 5", "rank 5 appears twice, first in line 6"),
    ],
)
def test_faulty_rank_line(line, message):
    with pytest.raises(VocabularyError) as caught:
        formats.read(b"\n".join([*rank_lines(BYTES), line, b"eHk= 999"]), pattern="gpt2", path="x.tiktoken")
    assert message in str(caught.value) and str(caught.value).startswith("x.tiktoken:257: ")


def test_rank_file_without_a_byte_and_with_a_huge_rank():
    with pytest.raises(VocabularyError, match="single byte b'A' has no token"):
        formats.read(b"\n".join(rank_lines({t: r for t, r in BYTES.items() if t != b"A"})), pattern="gpt2")
    for rank in (99_999, 4_294_967_295):
        with pytest.raises(LimitError):
            formats.read(b"\n".join([*rank_lines(BYTES), b"YWI= %d" % rank]), pattern="gpt2")


def test_empty_token_of_a_rank_file_is_kept():
    data = b"\n".join([*rank_lines(BYTES), b"= 256"]) + b"\n"
    spec = formats.read(data, pattern="gpt2")
    assert spec.vocab[b""] == 256 and formats.write(spec, "tiktoken") == data


def test_merges_that_ranks_reproduce_are_written_as_ranks():
    import tiktoken as peer

    written = 0
    for seed in range(12):
        spec = spec_of(seed=seed, added_tokens=())
        try:
            data = formats.write(spec, "tiktoken")
        except UnsupportedError:
            continue
        written += 1
        ranks = dict(formats.read(data, pattern="llama3").vocab)
        reference = peer.Encoding("x", pat_str=LLAMA3, mergeable_ranks=ranks, special_tokens={})
        tok = owner(formats.write(spec, "tokenizer.json"))
        rng = random.Random(seed)
        for text in [TEXT, *("".join(rng.choices(TEXT, k=30)) for _ in range(50))]:
            assert reference.encode_ordinary(text) == tok.encode(text).ids
    assert written


@pytest.mark.parametrize(
    ("tokens", "merges", "whole", "message"),
    [
        # The page's example: on "abc" ranks give a+bc, the list ab c.
        ({b"ab": 256, b"bc": 257, b"abc": 258}, [(b"a", b"b"), (b"b", b"c"), (b"a", b"bc")], True, "b'abc' is made of"),
        ({b"ab": 257, b"cd": 256}, [(b"a", b"b"), (b"c", b"d")], True, "not in the order of merges"),
        ({b"abc": 256}, [], False, "b'abc' is never produced by the merges"),
    ],
)
def test_merges_that_ranks_do_not_reproduce_are_refused(tokens, merges, whole, message):
    spec = spec_of(vocab=BYTES | tokens, merges=tuple(merges), whole=whole, added_tokens=())
    with pytest.raises(UnsupportedError) as caught:
        formats.write(spec, "tiktoken")
    assert message in str(caught.value)


@pytest.mark.parametrize("changes", [{"normalizer": "NFC"}, {}])
def test_rank_file_refuses_what_it_cannot_hold(changes):
    with pytest.raises(UnsupportedError, match="a rank file cannot hold"):
        formats.write(spec_of(**changes), "tiktoken")


# vocab.json + merges.txt


def pair_files(folder, spec, names=("vocab.json", "merges.txt")):
    for name, data in zip(names, gpt2.write(spec)):
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_pair_is_found_from_either_file_and_from_the_folder(tmp_path, names):
    spec = spec_of(GPT2, added_tokens=(AddedToken("<|end|>", 316), AddedToken("\u00e9 <b>", 400)))
    pair_files(tmp_path, spec, names)
    for path in (tmp_path, tmp_path / names[0], tmp_path / names[1]):
        assert formats.read_path(path) == spec
    os.remove(tmp_path / names[1])
    with pytest.raises(VocabularyError, match=f"read together with .*{names[1]}"):
        formats.read_path(tmp_path)


def test_pair_gives_the_ids_of_its_owner(tmp_path):
    spec = spec_of(GPT2, added_tokens=())
    pair_files(tmp_path, spec)
    from tokenizers import Tokenizer, models, pre_tokenizers

    tok = Tokenizer(models.BPE.from_file(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert tok.encode(TEXT).ids == owner(formats.write(spec, "tokenizer.json")).encode(TEXT).ids


def test_special_tokens_of_a_pair_are_what_no_merge_makes_or_what_is_named():
    spec = spec_of(GPT2, added_tokens=(AddedToken("<|end|>", 316),))
    vocab, merges = gpt2.write(spec)
    splits = spec.splits
    assert gpt2.read(vocab, merges, splits=splits) == spec
    assert gpt2.read(vocab, merges, splits=splits, special_tokens={"<|end|>": 316}) == spec
    assert b"<|end|>" in gpt2.read(vocab, merges, splits=splits, special_tokens={}).vocab
    with pytest.raises(VocabularyError, match="has id 316 in the file, not 317"):
        gpt2.read(vocab, merges, splits=splits, special_tokens={"<|end|>": 317})


def test_header_line_ends_and_hash_signs_of_merges_txt():
    vocab, merges = gpt2.write(spec_of(GPT2, added_tokens=()))
    splits = (Split(GPT2),)
    expected = gpt2.read(vocab, merges, splits=splits)
    body = merges.partition(b"\n")[2]
    for same in (body, merges.replace(b"\n", b"\r\n"), merges[:-1]):
        assert gpt2.read(vocab, same, splits=splits) == expected
    ids = json.loads(vocab) | {"##": 500}
    hashes = gpt2.read(json.dumps(ids).encode(), b"# #\n" + body, splits=splits)
    assert hashes.merges[0] == (b"#", b"#")


@pytest.mark.parametrize("line", ["a", "a b c", " a", "a  b", "", "a zz", "\u4e2d a"])
def test_faulty_merge_line(line):
    vocab, merges = gpt2.write(spec_of(GPT2, added_tokens=()))
    with pytest.raises(VocabularyError):
        gpt2.read(vocab, merges + line.encode() + b"\n", splits=[Split(GPT2)])


@pytest.mark.parametrize("changes", [{"splits": (Split(R50K),)}, {"normalizer": "NFC"}, {"whole": True}, {}])
def test_pair_refuses_what_it_cannot_hold(changes):
    with pytest.raises(UnsupportedError):
        gpt2.write(spec_of(GPT2, **changes))  # without changes: a non-special added token


def test_byte_level_text_is_that_of_the_owner():
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    assert set(gpt2.to_text(bytes(range(256)))) == set(alphabet)
    assert gpt2.from_text(gpt2.to_text(bytes(range(256)))) == bytes(range(256))
    pieces = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(TEXT)
    assert gpt2.to_text(TEXT.encode()) == pieces[0][0]


# The choice


def test_content_decides_not_the_name(tmp_path):
    spec = spec_of(GPT2)
    for format in ("fbpe", "tokenizer.json"):
        (tmp_path / "tokenizer.model").write_bytes(formats.write(spec, format))
        assert formats.read_path(tmp_path / "tokenizer.model") == spec
    (tmp_path / "tokenizer.json").write_bytes(b"\n".join(rank_lines()))
    assert formats.read_path(tmp_path / "tokenizer.json", pattern="gpt2").merges is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\x0e\n\x05<unk>", "SentencePiece"),
        (b"GGUF\x03", "GGUF"),
        (b"minbpe v1\n", "minbpe"),
        (b"\x80\x04\x95", "pickle"),
        (b'{"config": {}, "vocab": []}', "tekken"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"[]", "neither a tokenizer.json"),
        (b'{"model": {}', "not JSON"),
        (b"some text", "read together"),
        (b"\x00\x01", "not of a known format"),
        (b"[" * 200_000, "nested deeper"),
    ],
)
def test_other_content_is_refused(data, message):
    with pytest.raises(VocabularyError) as caught:
        formats.read(data, pattern="gpt2" if data[:1] == b"\x00" else None)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_arguments_a_format_has_no_use_for_are_refused():
    data = formats.write(spec_of(), "tokenizer.json")
    for arguments in ({"pattern": "gpt2"}, {"special_tokens": {}}, {"format": "zork"}, {"ids": "zork"}):
        with pytest.raises(ValueError, match=r"load\(\)"):
            formats.read(data, **arguments)
    with pytest.raises(TypeError, match=r"load\(\): data must be bytes, got str"):
        formats.read("text")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(VocabularyError, match="pipe: not a regular file"):
        formats.read_path(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        formats.read_path(tmp_path / "missing")
    with pytest.raises(VocabularyError, match="holds no tokenizer.json"):
        formats.read_path(tmp_path)


def test_format_from_the_name():
    for name, format in [("a.fbpe", "fbpe"), ("a.tiktoken", "tiktoken"), ("tokenizer.json", "tokenizer.json")]:
        assert formats.format_for_path(name) == format
    assert formats.format_for_path("x/vocab.json") == formats.format_for_path("x/merges.txt") == "gpt2"
    with pytest.raises(ValueError, match="must end in .fbpe"):
        formats.format_for_path("a.txt")
    with pytest.raises(ValueError, match="two files"):
        formats.write(spec_of(), "gpt2")


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_raise_nothing_else(seed):
    rng = random.Random(seed)
    files = [(formats.write(spec_of(), "tokenizer.json"), None), (b"\n".join(rank_lines()), "gpt2")]
    junk = [b"null", b"1e999", b"-1", b'"', b"{}", b"[[", b"\0", b"\xff", b"\\ud800", b"9" * 20]
    for _ in range(150):
        for data, pattern in files:
            damaged = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.3 else data)
            if damaged and rng.random() < 0.6:
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            at = rng.randrange(len(damaged) + 1)
            damaged[at : at + 1] = rng.choice(junk)
            try:
                formats.read(bytes(damaged), pattern=pattern)
            except VocabularyError as error:
                assert "\n" not in str(error)
            except ValueError as error:
                assert "holds its own pattern" in str(error) or "pattern is required" in str(error)
