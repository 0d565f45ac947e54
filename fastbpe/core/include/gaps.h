/* Increasing numbers of 32 bits as gaps of one unit of 16 bits below 0xF000, else of two, or of three. */
#ifndef FASTBPE_GAPS_H
#define FASTBPE_GAPS_H

#include <stdint.h>

/* In units. */
static inline uint32_t gap_size(uint32_t gap) { return 1 + (gap >= 0xF000) + (gap >= 0x0FFF0000); }

/* Returns the place of the next gap. */
static inline const uint16_t *gap_read(const uint16_t *at, uint32_t *gap)
{
    uint32_t head = *at++;
    if (head >= 0xF000) {
        head &= 0xFFF;
        if (head == 0xFFF)
            head = *at++;
        head = head << 16 | *at++;
    }
    *gap = head;
    return at;
}

static inline uint16_t *gap_write(uint16_t *to, uint32_t gap)
{
    if (gap >= 0xF000) {
        if (gap >= 0x0FFF0000) {
            *to++ = 0xFFFF;
            *to++ = (uint16_t)(gap >> 16);
        } else
            *to++ = (uint16_t)(0xF000 | gap >> 16);
    }
    *to++ = (uint16_t)gap;
    return to;
}

#endif
