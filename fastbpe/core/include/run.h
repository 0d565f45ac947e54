/* How many of the next 16 bytes lie in one range of ASCII, upper case taken as lower case where `fold` is 0x20.
 *
 * Counting without a branch on each byte saves one misprediction a word: the end of a word cannot be foreseen. */
#ifndef FASTBPE_RUN_H
#define FASTBPE_RUN_H

#include <stdint.h>

#if defined(__SSE2__) && (defined(__GNUC__) || defined(__clang__))
#include <emmintrin.h>

static inline int run_of_range(const uint8_t *data, uint8_t low, uint8_t span, uint8_t fold)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)data);
    __m128i shifted = _mm_sub_epi8(_mm_or_si128(bytes, _mm_set1_epi8((char)fold)), _mm_set1_epi8((char)low));
    __m128i inside = _mm_cmpeq_epi8(_mm_min_epu8(shifted, _mm_set1_epi8((char)span)), shifted);
    return __builtin_ctz(~(unsigned)_mm_movemask_epi8(inside) | 0x10000u);
}

#else

static inline int run_of_range(const uint8_t *data, uint8_t low, uint8_t span, uint8_t fold)
{
    int count = 0;
    while (count < 16 && (uint8_t)((data[count] | fold) - low) <= span)
        count++;
    return count;
}

#endif
#endif
