/* UTF-8 to the characters of a str, 64 bytes at once: AVX-512 alone.
 *
 * The leads of a block are moved together, and so are the bytes behind them and those behind these: then each character
 * stands in one lane of three registers. */
#ifndef FASTBPE_UTF8_READ_H
#define FASTBPE_UTF8_READ_H

#include <stddef.h>
#include <stdint.h>

/* The number of characters, and in `greatest` the greatest byte. */
typedef size_t Utf8Count(const uint8_t *data, size_t size, uint8_t *greatest);

/* Writes the characters in 1, 2 or 4 bytes each; returns 0 if the bytes are no UTF-8.  No byte is above C3, EF, F4. */
typedef int Utf8Read(const uint8_t *data, size_t size, int kind, void *to);

typedef struct {
    Utf8Count *count;
    Utf8Read *read;
} Utf8Reader;

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#include <immintrin.h>
#define UTF8_READ __attribute__((target("avx512bw,avx512vl,avx512vbmi2,bmi,bmi2,popcnt")))

UTF8_READ static inline __m512i utf8_load(const uint8_t *data, size_t size)
{
    return size >= 64 ? _mm512_loadu_si512(data) : _mm512_maskz_loadu_epi8(_bzhi_u64(~0ull, (unsigned)size), data);
}

UTF8_READ static size_t utf8_count_avx512(const uint8_t *data, size_t size, uint8_t *greatest)
{
    __m512i most = _mm512_setzero_si512();
    size_t at, inside = 0;
    uint8_t bytes[64];
    for (at = 0; at < size; at += 64) {
        __m512i block = utf8_load(data + at, size - at);
        most = _mm512_max_epu8(most, block);
        inside += (size_t)_mm_popcnt_u64(_mm512_cmplt_epi8_mask(block, _mm512_set1_epi8(-64)));
    }
    _mm512_storeu_si512(bytes, most);
    for (*greatest = 0, at = 0; at < 64; at++)
        *greatest = bytes[at] > *greatest ? bytes[at] : *greatest;
    return size - inside;
}

/* 32 characters of 16 bits from their up to three bytes. */
UTF8_READ static inline __m512i utf8_join(__m256i one, __m256i two, __m256i three)
{
    const __m512i low = _mm512_set1_epi16(63);
    __m512i first = _mm512_cvtepu8_epi16(one), result;
    __m512i second = _mm512_and_si512(_mm512_cvtepu8_epi16(two), low);
    __m512i third = _mm512_and_si512(_mm512_cvtepu8_epi16(three), low);
    __mmask32 many = _mm512_cmpge_epu16_mask(first, _mm512_set1_epi16(0xE0));
    result = _mm512_or_si512(
        _mm512_slli_epi16(_mm512_and_si512(first, _mm512_set1_epi16(31)), 6), second);
    third = _mm512_or_si512(_mm512_or_si512(_mm512_slli_epi16(first, 12), _mm512_slli_epi16(second, 6)), third);
    result = _mm512_mask_mov_epi16(result, many, third);
    return _mm512_mask_mov_epi16(result, _mm512_cmplt_epu16_mask(first, _mm512_set1_epi16(0x80)), first);
}

/* 16 characters of 32 bits. */
UTF8_READ static inline __m512i utf8_join_wide(__m128i one, __m128i two, __m128i three, __m128i four)
{
    const __m512i low = _mm512_set1_epi32(63);
    __m512i first = _mm512_cvtepu8_epi32(one), second = _mm512_and_si512(_mm512_cvtepu8_epi32(two), low);
    __m512i third = _mm512_and_si512(_mm512_cvtepu8_epi32(three), low), result, wide;
    __m512i fourth = _mm512_and_si512(_mm512_cvtepu8_epi32(four), low);
    result = _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(first, _mm512_set1_epi32(31)), 6), second);
    wide = _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(first, _mm512_set1_epi32(15)), 12),
                           _mm512_or_si512(_mm512_slli_epi32(second, 6), third));
    result = _mm512_mask_mov_epi32(result, _mm512_cmpge_epu32_mask(first, _mm512_set1_epi32(0xE0)), wide);
    wide = _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(first, _mm512_set1_epi32(7)), 18),
                           _mm512_or_si512(_mm512_slli_epi32(second, 12),
                                           _mm512_or_si512(_mm512_slli_epi32(third, 6), fourth)));
    result = _mm512_mask_mov_epi32(result, _mm512_cmpge_epu32_mask(first, _mm512_set1_epi32(0xF0)), wide);
    return _mm512_mask_mov_epi32(result, _mm512_cmplt_epu32_mask(first, _mm512_set1_epi32(0x80)), first);
}

/* Whether a character is longer than need be, a surrogate, or above U+10FFFF: its first two bytes tell. */
UTF8_READ static inline int utf8_mistaken(__m512i one, __m512i two)
{
#define UTF8_IS(vector, byte) _mm512_cmpeq_epi8_mask(vector, _mm512_set1_epi8((char)(byte)))
#define UTF8_BELOW(mask, vector, byte) _mm512_mask_cmplt_epu8_mask(mask, vector, _mm512_set1_epi8((char)(byte)))
    uint64_t wrong = UTF8_IS(one, 0xC0) | UTF8_IS(one, 0xC1);
    wrong |= UTF8_BELOW(UTF8_IS(one, 0xE0), two, 0xA0) | UTF8_BELOW(UTF8_IS(one, 0xF0), two, 0x90);
    wrong |= UTF8_IS(one, 0xED) & ~UTF8_BELOW(UTF8_IS(one, 0xED), two, 0xA0);
    wrong |= UTF8_IS(one, 0xF4) & ~UTF8_BELOW(UTF8_IS(one, 0xF4), two, 0x90);
    return wrong != 0;
}

UTF8_READ static int utf8_read_avx512(const uint8_t *data, size_t size, int kind, void *to)
{
    uint64_t awaited = 0; /* bits of the bytes that go on, by what came before this block */
    size_t at;
    for (at = 0; at < size; at += 64) {
        __m512i one = utf8_load(data + at, size - at);
        __m512i two = utf8_load(data + at + 1, size - at - 1);
        __m512i three = utf8_load(data + at + 2, size > at + 2 ? size - at - 2 : 0);
        uint64_t inside = _mm512_cmplt_epi8_mask(one, _mm512_set1_epi8(-64)), leads = ~inside;
        uint64_t many = _mm512_cmpge_epu8_mask(one, _mm512_set1_epi8((char)0xC0));
        uint64_t of_three = _mm512_cmpge_epu8_mask(one, _mm512_set1_epi8((char)0xE0));
        uint64_t of_four = _mm512_cmpge_epu8_mask(one, _mm512_set1_epi8((char)0xF0));
        int count, place;
        if (size - at < 64)
            leads &= _bzhi_u64(~0ull, (unsigned)(size - at));
        if (inside != (many << 1 | of_three << 2 | of_four << 3 | awaited) || utf8_mistaken(one, two))
            return 0;
        awaited = many >> 63 | of_three >> 62 | of_four >> 61;
        count = (int)_mm_popcnt_u64(leads);
        if (kind == 4) {
            uint8_t bytes[4][64];
            __m512i four = utf8_load(data + at + 3, size > at + 3 ? size - at - 3 : 0);
            _mm512_storeu_si512(bytes[0], _mm512_maskz_compress_epi8(leads, one));
            _mm512_storeu_si512(bytes[1], _mm512_maskz_compress_epi8(leads, two));
            _mm512_storeu_si512(bytes[2], _mm512_maskz_compress_epi8(leads, three));
            _mm512_storeu_si512(bytes[3], _mm512_maskz_compress_epi8(leads, four));
            for (place = 0; place < count; place += 16) {
#define UTF8_ROW(number) _mm_loadu_si128((const __m128i *)(bytes[number] + place))
                __m512i codes = utf8_join_wide(UTF8_ROW(0), UTF8_ROW(1), UTF8_ROW(2), UTF8_ROW(3));
                unsigned rest = count - place < 16 ? (unsigned)(count - place) : 16;
                _mm512_mask_storeu_epi32((uint32_t *)to + place, (__mmask16)_bzhi_u32(~0u, rest), codes);
            }
        } else {
            one = _mm512_maskz_compress_epi8(leads, one);
            two = _mm512_maskz_compress_epi8(leads, two);
            if (kind == 1) {
                __m512i more = _mm512_maskz_set1_epi8(_mm512_cmpeq_epi8_mask(one, _mm512_set1_epi8((char)0xC3)), 0x40);
                one = _mm512_mask_add_epi8(one, _mm512_movepi8_mask(one), two, more);
                _mm512_mask_storeu_epi8(to, _bzhi_u64(~0ull, (unsigned)count), one);
            } else {
                three = _mm512_maskz_compress_epi8(leads, three);
                _mm512_mask_storeu_epi16(
                    to, _bzhi_u32(~0u, count < 32 ? (unsigned)count : 32),
                    utf8_join(_mm512_castsi512_si256(one), _mm512_castsi512_si256(two), _mm512_castsi512_si256(three)));
                if (count > 32)
                    _mm512_mask_storeu_epi16(
                        (uint16_t *)to + 32, _bzhi_u32(~0u, (unsigned)count - 32),
                        utf8_join(
                            _mm512_extracti64x4_epi64(one, 1), _mm512_extracti64x4_epi64(two, 1),
                            _mm512_extracti64x4_epi64(three, 1)));
            }
        }
        to = (uint8_t *)to + count * kind;
    }
    return awaited == 0;
}

static inline Utf8Reader utf8_reader(void)
{
    Utf8Reader avx512 = {utf8_count_avx512, utf8_read_avx512}, none = {NULL, NULL};
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi2") &&
            __builtin_cpu_supports("bmi2") ? avx512 : none;
}
#else
static inline Utf8Reader utf8_reader(void)
{
    Utf8Reader none = {NULL, NULL};
    return none;
}
#endif
#endif
