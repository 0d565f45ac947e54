"""The bundled encodings.  Oracle: tiktoken's own tables and constructors (its published hashes; nothing downloaded)."""

from __future__ import annotations

import hashlib
import random
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest

from fastbpe import encodings
from fastbpe.encodings import build
from fastbpe.errors import VocabularyError
from fastbpe.spec import Split, TokenizerSpec

tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed")
openai_public = pytest.importorskip("tiktoken_ext.openai_public", reason="tiktoken is not installed")


def published(monkeypatch, name):
    """tiktoken's definition of an encoding, with the hash it expects in place of the ranks it would download."""
    hashes = []
    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda url, expected_hash: hashes.append(expected_hash))
    monkeypatch.setattr(openai_public, "data_gym_to_mergeable_bpe_ranks", lambda **_: hashes.append("gpt2"))
    definition = openai_public.ENCODING_CONSTRUCTORS[name]()
    return definition, hashes[0]


def rank_file(spec):
    return b"".join(b"%b %d\n" % (b64encode(token), rank) for token, rank in spec.vocab.items())


def test_all_of_tiktoken_is_here():
    assert set(encodings.NAMES) == set(openai_public.ENCODING_CONSTRUCTORS)


@pytest.mark.parametrize("name", encodings.NAMES)
def test_definition_is_tiktokens(monkeypatch, name):
    definition, sha256 = published(monkeypatch, name)
    spec = encodings.spec(name)
    assert [(split.pattern, split.gaps) for split in spec.splits] == [(definition["pat_str"], False)]
    assert spec.special_tokens == definition["special_tokens"] and spec.merges is None and spec.whole
    assert spec.name == name and spec.n_vocab == definition.get("explicit_n_vocab", spec.n_vocab)
    if sha256 != "gpt2":  # built from other files there; equal to r50k_base, as the next test says
        assert hashlib.sha256(rank_file(spec)).hexdigest() == sha256


def test_gpt2_is_r50k():
    assert encodings.spec("gpt2") == encodings.spec("r50k_base")


def test_shared_id_decodes_to_its_first_name():
    names = [token.content for token in encodings.spec("o200k_harmony").added_tokens if token.id == 200018]
    assert names == ["<|endofprompt|>", "<|reserved_200018|>"]


def test_models_are_tiktokens():
    from tiktoken import model

    assert encodings.MODEL_TO_ENCODING == model.MODEL_TO_ENCODING
    assert list(encodings.MODEL_PREFIX_TO_ENCODING.items()) == list(model.MODEL_PREFIX_TO_ENCODING.items())
    for name in ["gpt-4o", "gpt-4o-2024-05-13", "ft:gpt-4:x", "gpt-oss-120b", "davinci", "o1-x"]:
        assert encodings.name_for_model(name) == model.encoding_name_for_model(name)
    with pytest.raises(KeyError, match="no encoding is known for the model 'llama'"):
        encodings.name_for_model("llama")


def test_unknown_name():
    with pytest.raises(ValueError, match="name must be one of gpt2, .* got 'cl100k'"):
        encodings.spec("cl100k")


def test_each_is_made_once():
    assert encodings.spec("gpt2") is encodings.spec("gpt2")


@pytest.fixture
def other_folder(tmp_path, monkeypatch):
    encodings.spec("r50k_base")  # kept from here on, whatever stands in the folder
    for module in (encodings, build):
        monkeypatch.setattr(module, "__file__", str(tmp_path / "module.py"))
    encodings._vocab.cache_clear()
    yield tmp_path
    encodings._vocab.cache_clear()


@pytest.mark.parametrize("damage", [lambda d: d[:-9], lambda d: d[:100], lambda d: b"x" + d, lambda d: b""])
def test_damaged_data_is_refused(other_folder, damage):
    data = (Path(build.__spec__.origin).parent / "r50k_base.bin").read_bytes()
    (other_folder / "r50k_base.bin").write_bytes(damage(data))
    with pytest.raises(VocabularyError, match="install fastbpe again"):
        encodings._vocab("r50k_base")


def test_build_makes_the_same_content(other_folder, capsys, monkeypatch):
    spec = encodings.spec("r50k_base")
    monkeypatch.setattr(build, "SOURCES", {"r50k_base.tiktoken": encodings.SOURCES["r50k_base.tiktoken"]})
    (other_folder / "r50k_base.tiktoken").write_bytes(rank_file(spec))
    assert build.main([str(other_folder)]) == 0
    size, sha256 = encodings._DATA["r50k_base"]
    assert capsys.readouterr().out.split() == ['"r50k_base":', f"({size},", f'"{sha256}"),']
    made = encodings._vocab("r50k_base")
    assert made == dict(spec.vocab) and list(made) == list(spec.vocab)
    (other_folder / "r50k_base.tiktoken").write_bytes(rank_file(spec)[:-1])
    assert build.main([str(other_folder)]) == 1


@pytest.mark.parametrize("name", ["r50k_base", "p50k_base", "cl100k_base", "o200k_base"])
def test_packed_vocabulary_is_a_mapping_and_builds_the_same_engine(core, name):
    """What the file says of left parts is what merging finds out."""
    packed = encodings.spec(name).vocab
    plain = dict(packed)
    assert len(packed) == len(plain) and packed[b"the"] == plain[b"the"] and b"the" in packed and b"" not in packed
    assert packed.token(plain[b"the"]) == b"the" and packed.token(10**6) is None
    assert list(packed.items()) == list(plain.items()) == sorted(plain.items(), key=lambda item: item[1])
    assert TokenizerSpec(splits=[Split("a")], vocab=plain) == TokenizerSpec(splits=[Split("a")], vocab=packed)
    one, two = core.Merger(packed, None, True), core.Merger(plain, None, True)
    rng = random.Random(name)
    tokens = list(plain)
    for _ in range(3000):
        piece = b"".join(rng.choices(tokens, k=rng.randint(1, 6)))
        cut = piece[rng.randrange(len(piece)) :]
        assert one.merge(cut) == two.merge(cut), cut
    ids = np.array(rng.choices(list(plain.values()), k=5000), dtype=np.uint32)
    assert core.Decoder(packed, {}).decode(ids) == core.Decoder(plain, {}).decode(ids)


def test_data_stays_small():
    folder = Path(encodings.__file__).parent
    assert sum(path.stat().st_size for path in folder.glob("*.bin")) < 4_000_000
