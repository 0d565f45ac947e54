/* Boundaries from five characters, for a chunk of text at once (see pattern/boxes.py).
 *
 * Bytes become classes, classes of bytes become classes of characters, and the boxes are tested by shuffles for as many
 * characters as a register holds.  The result is one bit a byte of the text: a boundary before it, or a case for the
 * automaton.  This header picks what the processor has; boxes_vector.h is the code, once for each kind. */
#ifndef FASTBPE_BOXES_H
#define FASTBPE_BOXES_H

#include <stdint.h>
#include <string.h>

#define BOXES_CHUNK 4096 /* bytes decided at once: all that is written on the way stays in the nearest cache */
#define BOXES_BLOCKS (BOXES_CHUNK / 64)
#define BOXES_MIXED 0xFF
#define BOXES_OFF 1
#define BOXES_ON 2
#define BOXES_LEFT 32 /* room before the first character, for the three before it */

typedef struct {
    uint8_t ascii[8][16];   /* class of an ASCII byte, by its upper and its lower half */
    uint8_t two[2048];      /* class of a character of two bytes, by its code point */
    const uint16_t *stage1; /* of all others: block by the upper bits of the code point, */
    const uint8_t *stage2;  /* class by block and the lower six */
    uint8_t of_lead[16];       /* the class of all characters of three bytes with a lead, by its low four bits; or MIXED */
    uint8_t of_second[16][64]; /* and of those with a lead and a second byte, by its low six */
    uint8_t rules[8][5][16];
    uint8_t unsure[8];
    uint8_t tails[16][16]; /* what a run of one class before another says where the rules do not: BOXES_OFF, _ON, or 0 */
    uint8_t periods[16];   /* that of a run of a class which begins with a pretoken, or 0 */
    int n_rules;
    uint8_t end; /* class of the end of the text */
} Boxes;

typedef struct {
    uint64_t on[BOXES_BLOCKS + 1], unsure[BOXES_BLOCKS + 1];
    uint64_t leads[BOXES_BLOCKS + 1];
    uint8_t bytes[BOXES_LEFT + BOXES_CHUNK + 128];
    uint8_t characters[BOXES_LEFT + BOXES_CHUNK + 128];
} Decided;

/* Decides the characters of `size` bytes, at most BOXES_CHUNK, which begin with a character and end with one; `before`
 * are the classes of the three before them, and a pretoken begins `open` bytes before them, unless that is negative.
 * Unless the text is `final`, the last character stays undecided. */
typedef void BoxesDecide(
    const Boxes *boxes, const uint8_t *data, int size, const uint8_t before[3], int64_t open, int final, Decided *decided);

/* Writes the places of the bits in `on`, block after block, and up to 15 numbers of no meaning behind them.  Returns the
 * block that it stops before: the first with a case for the automaton, or `blocks`. */
typedef int BoxesFlatten(const Decided *decided, int block, int blocks, uint32_t **to);

typedef struct {
    BoxesDecide *decide;
    BoxesFlatten *flatten;
} BoxesCode;

/* The class of the character at `data`, which is complete. */
static inline uint8_t boxes_class(const Boxes *boxes, const uint8_t *data)
{
    uint32_t block;
    if (data[0] < 0x80)
        return boxes->ascii[data[0] >> 4][data[0] & 15];
    if (data[0] < 0xE0)
        return boxes->two[(data[0] & 31) << 6 | (data[1] & 63)];
    if (data[0] < 0xF0) {
        block = (uint32_t)(data[0] & 15) << 6 | (data[1] & 63);
        return boxes->stage2[boxes->stage1[block] * 64 + (data[2] & 63)];
    }
    block = (uint32_t)(data[0] & 7) << 12 | (uint32_t)(data[1] & 63) << 6 | (data[2] & 63);
    if (block >= 17408) /* never in UTF-8 */
        block = 0;
    return boxes->stage2[boxes->stage1[block] * 64 + (data[3] & 63)];
}

/* Whether the `open` bytes before `data` are ASCII of a class, and no more than its period. */
static inline int boxes_run_before(const Boxes *boxes, const uint8_t *data, uint8_t of_class, int64_t open)
{
    int at;
    if (open < 0 || open > boxes->periods[of_class])
        return 0;
    for (at = 1; at <= open; at++)
        if (data[-at] >= 0x80 || boxes_class(boxes, data - at) != of_class)
            return 0;
    return 1;
}

static inline int boxes_count(uint64_t bits) /* without an instruction for it: Warren, "Hacker's Delight", 5-1 */
{
    bits -= bits >> 1 & 0x5555555555555555u;
    bits = (bits & 0x3333333333333333u) + (bits >> 2 & 0x3333333333333333u);
    return (int)(((bits + (bits >> 4)) & 0x0F0F0F0F0F0F0F0Fu) * 0x0101010101010101u >> 56);
}

#if defined(__GNUC__) || defined(__clang__)
#define boxes_lowest(bits) __builtin_ctzll(bits)
#else
static inline int boxes_lowest(uint64_t bits) { return boxes_count((bits & -bits) - 1); }
#endif

#if (defined(__GNUC__) || defined(__clang__)) && (defined(__x86_64__) || defined(__i386__))
#include <immintrin.h>

static const uint8_t boxes_numbers[64] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

#define BOXES_TARGET __attribute__((target("avx512bw,avx512vbmi,avx512vbmi2,bmi,bmi2,popcnt")))
#define BOXES_NAME(name) name##_avx512
#define BOXES_WIDTH 64
typedef __m512i boxes_avx512;
#define VECTOR boxes_avx512
#define LOAD(from) _mm512_loadu_si512((const void *)(from))
#define STORE(to, value) _mm512_storeu_si512((void *)(to), value)
#define TABLE(from) _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(from)))
#define LOOK(table, at) _mm512_shuffle_epi8(table, at)
#define EACH(byte) _mm512_set1_epi8((char)(byte))
#define AND(a, b) _mm512_and_si512(a, b)
#define OR(a, b) _mm512_or_si512(a, b)
#define XOR(a, b) _mm512_xor_si512(a, b)
#define ADD(a, b) _mm512_adds_epu8(a, b)
#define NONZERO(a) _mm512_test_epi8_mask(a, a)
#define HIGH(a) _mm512_movepi8_mask(a)
#define LEADS(a) _mm512_cmpgt_epi8_mask(a, _mm512_set1_epi8(-65))
#define CLASSES(ascii, bytes) \
    _mm512_maskz_permutex2var_epi8((uint64_t)~_mm512_movepi8_mask(bytes), LOAD(ascii), bytes, LOAD((ascii) + 4))
#define WIDE_CLASSES 4 /* fewer are faster one by one */
#define COMPRESS(to, from, bits) _mm512_storeu_si512((void *)(to), _mm512_maskz_compress_epi8(bits, LOAD(from)))
#define PLACES(bits) _mm512_maskz_compress_epi8(bits, LOAD(boxes_numbers)) /* the numbers of the bits that are set */
#define BOXES_BMI2 1
#include "boxes_vector.h"

#define BOXES_TARGET __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define BOXES_NAME(name) name##_avx2
#define BOXES_WIDTH 32
typedef __m256i boxes_avx2;
#define VECTOR boxes_avx2
#define LOAD(from) _mm256_loadu_si256((const __m256i *)(from))
#define STORE(to, value) _mm256_storeu_si256((__m256i *)(to), value)
#define TABLE(from) _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(from)))
#define LOOK(table, at) _mm256_shuffle_epi8(table, at)
#define EACH(byte) _mm256_set1_epi8((char)(byte))
#define AND(a, b) _mm256_and_si256(a, b)
#define OR(a, b) _mm256_or_si256(a, b)
#define XOR(a, b) _mm256_xor_si256(a, b)
#define ADD(a, b) _mm256_adds_epu8(a, b)
#define NONZERO(a) (uint32_t)~_mm256_movemask_epi8(_mm256_cmpeq_epi8(a, _mm256_setzero_si256()))
#define HIGH(a) (uint32_t)_mm256_movemask_epi8(a)
#define LEADS(a) (uint32_t)_mm256_movemask_epi8(_mm256_cmpgt_epi8(a, _mm256_set1_epi8(-65)))
#define BOXES_BMI2 1
#include "boxes_vector.h"

#define BOXES_TARGET __attribute__((target("ssse3")))
#define BOXES_NAME(name) name##_ssse3
#define BOXES_WIDTH 16
typedef __m128i boxes_ssse3;
#define VECTOR boxes_ssse3
#define LOAD(from) _mm_loadu_si128((const __m128i *)(from))
#define STORE(to, value) _mm_storeu_si128((__m128i *)(to), value)
#define TABLE(from) LOAD(from)
#define LOOK(table, at) _mm_shuffle_epi8(table, at)
#define EACH(byte) _mm_set1_epi8((char)(byte))
#define AND(a, b) _mm_and_si128(a, b)
#define OR(a, b) _mm_or_si128(a, b)
#define XOR(a, b) _mm_xor_si128(a, b)
#define ADD(a, b) _mm_adds_epu8(a, b)
#define NONZERO(a) (uint16_t)~_mm_movemask_epi8(_mm_cmpeq_epi8(a, _mm_setzero_si128()))
#define HIGH(a) (uint16_t)_mm_movemask_epi8(a)
#define LEADS(a) (uint16_t)_mm_movemask_epi8(_mm_cmpgt_epi8(a, _mm_set1_epi8(-65)))
#define BOXES_BMI2 0
#include "boxes_vector.h"

static inline BoxesCode boxes_code(const char *kind)
{
    BoxesCode none = {NULL, NULL}, avx2 = {boxes_decide_avx2, boxes_flatten_avx2};
    BoxesCode ssse3 = {boxes_decide_ssse3, boxes_flatten_ssse3}, avx512 = {boxes_decide_avx512, boxes_flatten_avx512};
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("bmi2") && (!*kind || !strcmp(kind, "avx512")))
        return avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && (!*kind || !strcmp(kind, "avx2")))
        return avx2;
    if (__builtin_cpu_supports("ssse3") && (!*kind || !strcmp(kind, "ssse3")))
        return ssse3;
    return none;
}

#elif (defined(__GNUC__) || defined(__clang__)) && defined(__aarch64__)
#include <arm_neon.h>

static inline uint16_t boxes_mask(uint8x16_t high) /* one bit a byte that is all ones */
{
    static const uint8_t bits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t one = vandq_u8(high, vld1q_u8(bits));
    return (uint16_t)(vaddv_u8(vget_low_u8(one)) | vaddv_u8(vget_high_u8(one)) << 8);
}

#define BOXES_TARGET
#define BOXES_NAME(name) name##_neon
#define BOXES_WIDTH 16
#define VECTOR uint8x16_t
#define LOAD(from) vld1q_u8(from)
#define STORE(to, value) vst1q_u8(to, value)
#define TABLE(from) vld1q_u8(from)
#define LOOK(table, at) vqtbl1q_u8(table, vandq_u8(at, vdupq_n_u8(0x8F)))
#define EACH(byte) vdupq_n_u8(byte)
#define AND(a, b) vandq_u8(a, b)
#define OR(a, b) vorrq_u8(a, b)
#define XOR(a, b) veorq_u8(a, b)
#define ADD(a, b) vqaddq_u8(a, b)
#define NONZERO(a) boxes_mask(vtstq_u8(a, a))
#define HIGH(a) boxes_mask(vcgeq_u8(a, vdupq_n_u8(0x80)))
#define LEADS(a) boxes_mask(vcgtq_s8(vreinterpretq_s8_u8(a), vdupq_n_s8(-65)))
#define BOXES_BMI2 0
#include "boxes_vector.h"

static inline BoxesCode boxes_code(const char *kind)
{
    BoxesCode none = {NULL, NULL}, neon = {boxes_decide_neon, boxes_flatten_neon};
    return !*kind || !strcmp(kind, "neon") ? neon : none;
}

#else

static inline BoxesCode boxes_code(const char *kind)
{
    BoxesCode none = {NULL, NULL};
    (void)kind;
    return none;
}

#endif
#endif
