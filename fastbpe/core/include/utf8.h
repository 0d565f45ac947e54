/* UTF-8 of the characters of a str, which CPython stores in one, two or four bytes each. */
#ifndef FASTBPE_UTF8_H
#define FASTBPE_UTF8_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define UTF8_BEHIND 64 /* bytes that may be written behind the last one */

/* Write the UTF-8 of `count` characters of `kind` bytes; return its length, or SIZE_MAX if there is a surrogate. */
typedef size_t Utf8Write(const void *from, size_t count, int kind, uint8_t *to);

static inline uint8_t *utf8_put(uint32_t code, uint8_t *to)
{
    if (code < 0x80) {
        to[0] = (uint8_t)code;
        return to + 1;
    }
    if (code < 0x800) {
        to[0] = (uint8_t)(0xC0 | code >> 6);
        to[1] = (uint8_t)(0x80 | (code & 63));
        return to + 2;
    }
    if (code < 0x10000) {
        to[0] = (uint8_t)(0xE0 | code >> 12);
        to[1] = (uint8_t)(0x80 | (code >> 6 & 63));
        to[2] = (uint8_t)(0x80 | (code & 63));
        return to + 3;
    }
    to[0] = (uint8_t)(0xF0 | code >> 18);
    to[1] = (uint8_t)(0x80 | (code >> 12 & 63));
    to[2] = (uint8_t)(0x80 | (code >> 6 & 63));
    to[3] = (uint8_t)(0x80 | (code & 63));
    return to + 4;
}

static size_t utf8_write_plain(const void *from, size_t count, int kind, uint8_t *to)
{
    const uint8_t *start = to;
    size_t at;
    for (at = 0; at < count; at++) {
        uint32_t code;
        if (kind == 1)
            code = ((const uint8_t *)from)[at];
        else if (kind == 2)
            code = ((const uint16_t *)from)[at];
        else
            code = ((const uint32_t *)from)[at];
        if (code >> 11 == 27) /* D800 to DFFF */
            return SIZE_MAX;
        to = utf8_put(code, to);
    }
    return (size_t)(to - start);
}

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#include <immintrin.h>
#define UTF8_AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt")))

/* Writes the bytes in use, one behind the other. */
UTF8_AVX2 static inline uint8_t *utf8_push(__m256i bytes, __m256i used, uint8_t *to)
{
    uint64_t words[4], masks[4];
    int at;
    _mm256_storeu_si256((__m256i *)words, bytes);
    _mm256_storeu_si256((__m256i *)masks, used);
    for (at = 0; at < 4; at++) {
        uint64_t packed = _pext_u64(words[at], masks[at]);
        memcpy(to, &packed, 8);
        to += _mm_popcnt_u64(masks[at]) >> 3;
    }
    return to;
}

/* Eight characters, each in a lane of four bytes: its bytes are put together there, and those in use pushed together. */
UTF8_AVX2 static inline uint8_t *utf8_eight(__m256i codes, uint8_t *to)
{
    const __m256i six = _mm256_set1_epi32(63), tail = _mm256_set1_epi32(0x80);
    __m256i first = _mm256_or_si256(_mm256_and_si256(codes, six), tail);
    __m256i second = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi32(codes, 6), six), tail);
    __m256i third = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi32(codes, 12), six), tail);
    __m256i over1 = _mm256_cmpgt_epi32(codes, _mm256_set1_epi32(0x7F));
    __m256i over2 = _mm256_cmpgt_epi32(codes, _mm256_set1_epi32(0x7FF));
    __m256i over3 = _mm256_cmpgt_epi32(codes, _mm256_set1_epi32(0xFFFF));
    __m256i two = _mm256_or_si256(
        _mm256_or_si256(_mm256_srli_epi32(codes, 6), _mm256_set1_epi32(0xC0)), _mm256_slli_epi32(first, 8));
    __m256i three = _mm256_or_si256(
        _mm256_or_si256(_mm256_srli_epi32(codes, 12), _mm256_set1_epi32(0xE0)),
        _mm256_or_si256(_mm256_slli_epi32(second, 8), _mm256_slli_epi32(first, 16)));
    __m256i four = _mm256_or_si256(
        _mm256_or_si256(_mm256_or_si256(_mm256_srli_epi32(codes, 18), _mm256_set1_epi32(0xF0)), _mm256_slli_epi32(third, 8)),
        _mm256_or_si256(_mm256_slli_epi32(second, 16), _mm256_slli_epi32(first, 24)));
    __m256i bytes = _mm256_blendv_epi8(codes, two, over1);
    __m256i used = _mm256_or_si256(_mm256_set1_epi32(0xFF), _mm256_and_si256(over1, _mm256_set1_epi32(0xFF00)));
    bytes = _mm256_blendv_epi8(_mm256_blendv_epi8(bytes, three, over2), four, over3);
    used = _mm256_or_si256(used, _mm256_and_si256(over2, _mm256_set1_epi32(0xFF0000)));
    used = _mm256_or_si256(used, _mm256_and_si256(over3, _mm256_set1_epi32((int)0xFF000000)));
    return utf8_push(bytes, used, to);
}

/* Sixteen characters of at most two bytes, each in a lane of two. */
UTF8_AVX2 static inline uint8_t *utf8_sixteen(__m256i codes, uint8_t *to)
{
    __m256i over1 = _mm256_cmpgt_epi16(codes, _mm256_set1_epi16(0x7F));
    __m256i two = _mm256_or_si256(
        _mm256_or_si256(_mm256_srli_epi16(codes, 6), _mm256_set1_epi16((short)0x80C0)),
        _mm256_slli_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(63)), 8));
    __m256i used = _mm256_or_si256(_mm256_set1_epi16(0xFF), _mm256_slli_epi16(over1, 8));
    return utf8_push(_mm256_blendv_epi8(codes, two, over1), used, to);
}

UTF8_AVX2 static inline int utf8_any_surrogate(__m256i codes)
{
    __m256i top = _mm256_and_si256(codes, _mm256_set1_epi32((int)0xFFFFF800));
    return !_mm256_testz_si256(_mm256_cmpeq_epi32(top, _mm256_set1_epi32(0xD800)), _mm256_set1_epi32(-1));
}

UTF8_AVX2 static size_t utf8_write_avx2(const void *from, size_t count, int kind, uint8_t *to)
{
    const uint8_t *start = to, *place = (const uint8_t *)from;
    size_t rest;
    for (; count >= 16; count -= 16, place += 16 * kind) {
        __m256i low, high;
        if (kind == 1) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)place);
            if (!_mm_movemask_epi8(bytes)) {
                _mm_storeu_si128((__m128i *)to, bytes);
                to += 16;
                continue;
            }
            to = utf8_sixteen(_mm256_cvtepu8_epi16(bytes), to);
            continue;
        } else if (kind == 2) {
            __m256i words = _mm256_loadu_si256((const __m256i *)place);
            if (_mm256_testz_si256(words, _mm256_set1_epi16((short)0xFF80))) {
                words = _mm256_permute4x64_epi64(_mm256_packus_epi16(words, words), 0x08);
                _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(words));
                to += 16;
                continue;
            }
            if (_mm256_testz_si256(words, _mm256_set1_epi16((short)0xF800))) {
                to = utf8_sixteen(words, to);
                continue;
            }
            low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(words));
            high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(words, 1));
        } else {
            low = _mm256_loadu_si256((const __m256i *)place);
            high = _mm256_loadu_si256((const __m256i *)(place + 32));
        }
        if (utf8_any_surrogate(low) || utf8_any_surrogate(high))
            return SIZE_MAX;
        to = utf8_eight(high, utf8_eight(low, to));
    }
    rest = utf8_write_plain(place, count, kind, to);
    return rest == SIZE_MAX ? rest : (size_t)(to - start) + rest;
}

#define UTF8_AVX512 __attribute__((target("avx512bw,avx512vl,avx512vbmi2,bmi,bmi2,popcnt")))

/* 32 characters of at most two bytes: put together in lanes of two, and the bytes in use pushed together at once. */
UTF8_AVX512 static inline uint8_t *utf8_pairs(__m512i codes, uint8_t *to)
{
    __mmask32 over1 = _mm512_cmpgt_epu16_mask(codes, _mm512_set1_epi16(0x7F));
    __m512i two = _mm512_or_si512(
        _mm512_or_si512(_mm512_srli_epi16(codes, 6), _mm512_set1_epi16((short)0x80C0)),
        _mm512_slli_epi16(_mm512_and_si512(codes, _mm512_set1_epi16(63)), 8));
    uint64_t used = 0x5555555555555555u | _pdep_u64(over1, 0xAAAAAAAAAAAAAAAAu);
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi8(used, _mm512_mask_mov_epi16(codes, over1, two)));
    return to + _mm_popcnt_u64(used);
}

/* Sixteen characters in lanes of four; NULL at a surrogate. */
UTF8_AVX512 static inline uint8_t *utf8_quads(__m512i codes, uint8_t *to)
{
    const __m512i six = _mm512_set1_epi32(63), tail = _mm512_set1_epi32(0x80);
    __m512i first = _mm512_or_si512(_mm512_and_si512(codes, six), tail);
    __m512i second = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(codes, 6), six), tail);
    __m512i third = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(codes, 12), six), tail);
    __mmask16 over1 = _mm512_cmpgt_epu32_mask(codes, _mm512_set1_epi32(0x7F));
    __mmask16 over2 = _mm512_cmpgt_epu32_mask(codes, _mm512_set1_epi32(0x7FF));
    __mmask16 over3 = _mm512_cmpgt_epu32_mask(codes, _mm512_set1_epi32(0xFFFF));
    __m512i two = _mm512_or_si512(
        _mm512_or_si512(_mm512_srli_epi32(codes, 6), _mm512_set1_epi32(0xC0)), _mm512_slli_epi32(first, 8));
    __m512i three = _mm512_or_si512(
        _mm512_or_si512(_mm512_srli_epi32(codes, 12), _mm512_set1_epi32(0xE0)),
        _mm512_or_si512(_mm512_slli_epi32(second, 8), _mm512_slli_epi32(first, 16)));
    __m512i four = _mm512_or_si512(
        _mm512_or_si512(_mm512_or_si512(_mm512_srli_epi32(codes, 18), _mm512_set1_epi32(0xF0)), _mm512_slli_epi32(third, 8)),
        _mm512_or_si512(_mm512_slli_epi32(second, 16), _mm512_slli_epi32(first, 24)));
    uint64_t used = 0x1111111111111111u | _pdep_u64(over1, 0x2222222222222222u);
    used |= _pdep_u64(over2, 0x4444444444444444u) | _pdep_u64(over3, 0x8888888888888888u);
    if (_mm512_cmpeq_epi32_mask(_mm512_srli_epi32(codes, 11), _mm512_set1_epi32(27))) /* D800 to DFFF */
        return NULL;
    codes = _mm512_mask_mov_epi32(codes, over1, two);
    codes = _mm512_mask_mov_epi32(codes, over2, three);
    codes = _mm512_mask_mov_epi32(codes, over3, four);
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi8(used, codes));
    return to + _mm_popcnt_u64(used);
}

UTF8_AVX512 static size_t utf8_write_avx512(const void *from, size_t count, int kind, uint8_t *to)
{
    const uint8_t *start = to, *place = (const uint8_t *)from;
    size_t rest;
    for (; count >= 32; count -= 32, place += 32 * kind) {
        int half;
        if (kind == 1) {
            __m256i bytes = _mm256_loadu_si256((const __m256i *)place);
            if (!_mm256_movemask_epi8(bytes)) {
                _mm256_storeu_si256((__m256i *)to, bytes);
                to += 32;
            } else {
                to = utf8_pairs(_mm512_cvtepu8_epi16(bytes), to);
            }
            continue;
        }
        if (kind == 2) {
            __m512i words = _mm512_loadu_si512(place);
            if (!_mm512_test_epi16_mask(words, _mm512_set1_epi16((short)0xFF80))) {
                _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi16_epi8(words));
                to += 32;
                continue;
            }
            if (!_mm512_test_epi16_mask(words, _mm512_set1_epi16((short)0xF800))) {
                to = utf8_pairs(words, to);
                continue;
            }
        }
        for (half = 0; half < 2; half++) {
            const uint8_t *sixteen = place + half * 16 * kind;
            __m512i codes = kind == 2 ? _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)sixteen))
                                      : _mm512_loadu_si512(sixteen);
            to = utf8_quads(codes, to);
            if (!to)
                return SIZE_MAX;
        }
    }
    rest = utf8_write_plain(place, count, kind, to);
    return rest == SIZE_MAX ? rest : (size_t)(to - start) + rest;
}

/* The way to write of a kind, or the best for an empty one. */
static inline Utf8Write *utf8_choose(const char *kind)
{
    __builtin_cpu_init();
    if (!strcmp(kind, "plain"))
        return utf8_write_plain;
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("bmi2") && !*kind)
        return utf8_write_avx512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") ? utf8_write_avx2 : utf8_write_plain;
}
#else
static inline Utf8Write *utf8_choose(const char *kind)
{
    (void)kind;
    return utf8_write_plain;
}
#endif
#endif
