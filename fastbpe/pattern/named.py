r"""The split patterns in use, each with its origin.

A pattern stands here as its owner publishes it.  Spellings that differ only at the end of the text are kept apart:
with tiktoken's cl100k pattern "x\n  " ends in the pretoken "\n  ", with Llama 3's in "\n" and "  ".
A tuple is a sequence of splits: each step splits the pieces that the step before it left.
"""

from __future__ import annotations

from types import MappingProxyType

# GPT-2's own pattern (Radford et al. 2019, encoder.py); Hugging Face's ByteLevel(use_regex=true); the CS336 course.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# tiktoken 0.14, tiktoken_ext/openai_public.py: gpt2, r50k_base, p50k_base, p50k_edit.
R50K = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"

# tiktoken 0.14: cl100k_base.
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)

_QUOTES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"

# tokenizer.json of Llama 3, 3.1, 3.2, 3.3; Hugging Face's conversions of cl100k.
LLAMA3 = rf"{_QUOTES}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"

# tokenizer.json of Qwen 2, 2.5, 3: Llama 3's with single digits.
QWEN2 = rf"{_QUOTES}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"

# Qwen 3.5: Qwen 2's with combining marks inside words.
QWEN35 = rf"{_QUOTES}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"

_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

# tiktoken 0.14: o200k_base, o200k_harmony; tokenizer.json of gpt-oss.
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_QUOTES}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_QUOTES}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)

# tekken.json of Mistral NeMo and later: o200k without contractions, single digits.
TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)

# tokenizer.json of DeepSeek V2, V3, V4: digits, then runs of Chinese and Japanese, then words.
DEEPSEEK = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
    rf"|{_SPACES}",
)

# StarCoder, Refact, SmolLM, Command R: Digits(individual_digits), then ByteLevel.
STARCODER = (r"\p{N}", GPT2)

# Falcon: Punctuation(contiguous), ByteLevel, Digits(contiguous), then groups of three ASCII digits.  Its last two steps
# see the alphabet of ByteLevel, where six bytes are numbers (B2, as a superscript two, among them) and part characters
# that have them; here all steps see the text, so such characters (ó, ü) give other ids than Falcon's.
FALCON = (r"[\p{P}$+<=>^`|~]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")

PATTERNS = MappingProxyType(
    {
        "cl100k": CL100K,
        "deepseek": DEEPSEEK,
        "falcon": FALCON,
        "gpt2": GPT2,
        "llama3": LLAMA3,
        "o200k": O200K,
        "qwen2": QWEN2,
        "qwen3.5": QWEN35,
        "r50k": R50K,
        "starcoder": STARCODER,
        "tekken": TEKKEN,
    }
)
