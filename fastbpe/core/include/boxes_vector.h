/* The code of boxes.h for one kind of vectors; no include guard, for it is included once for each kind. */

#if BOXES_BMI2
#define BOXES_COUNT(bits) (int)_mm_popcnt_u64(bits)
#else
#define BOXES_COUNT(bits) boxes_count(bits)
#endif

#if defined(WIDE_CLASSES)
/* Writes the classes of characters of two and three bytes, whose leads `wide` tells, among 64; returns what is left.  A
 * text has few leads, so a step decides all with one of them. */
BOXES_TARGET static inline uint64_t BOXES_NAME(boxes_classify_wide)(
    const Boxes *boxes, const uint8_t *data, uint64_t wide, uint8_t *classes)
{
    const VECTOR bytes = LOAD(data), second = LOAD(data + 1), third = LOAD(data + 2);
    VECTOR found = LOAD(classes), some;
    uint64_t two = wide & _mm512_cmplt_epu8_mask(bytes, EACH(0xE0)), four = wide & _mm512_cmpge_epu8_mask(bytes, EACH(0xF0));
    uint64_t three = wide & ~two & ~four, same, rest;
    while (two) { /* two leads together have 128 characters */
        const uint8_t lead = data[boxes_lowest(two)] & 0xFE, *table = boxes->two + ((lead & 31) << 6);
        same = two & _mm512_cmpeq_epi8_mask(AND(bytes, EACH(0xFE)), EACH(lead));
        some = _mm512_mask_add_epi8(second, _mm512_test_epi8_mask(bytes, EACH(1)), second, EACH(64));
        some = _mm512_permutex2var_epi8(LOAD(table), some, LOAD(table + 64));
        found = _mm512_mask_mov_epi8(found, same, some);
        two &= ~same;
    }
    if (three) {
        some = LOOK(TABLE(boxes->of_lead), AND(bytes, EACH(15)));
        same = three & _mm512_cmpneq_epi8_mask(some, EACH(BOXES_MIXED));
        found = _mm512_mask_mov_epi8(found, same, some);
        three &= ~same;
    }
    for (rest = three; rest; rest &= ~same) {
        const uint8_t lead = data[boxes_lowest(rest)];
        uint64_t all;
        same = rest & _mm512_cmpeq_epi8_mask(bytes, EACH(lead));
        some = _mm512_permutexvar_epi8(second, LOAD(boxes->of_second[lead & 15]));
        all = same & _mm512_cmpneq_epi8_mask(some, EACH(BOXES_MIXED));
        found = _mm512_mask_mov_epi8(found, all, some);
        three &= ~all;
    }
    while (three) {
        const int at = boxes_lowest(three);
        const uint32_t block = (uint32_t)(data[at] & 15) << 6 | (data[at + 1] & 63);
        same = three & _mm512_cmpeq_epi8_mask(bytes, EACH(data[at])) & _mm512_cmpeq_epi8_mask(second, EACH(data[at + 1]));
        some = _mm512_permutexvar_epi8(third, LOAD(boxes->stage2 + 64 * boxes->stage1[block]));
        found = _mm512_mask_mov_epi8(found, same, some);
        three &= ~same;
    }
    STORE(classes, found);
    return four;
}
#endif

/* Writes the class of each ASCII byte and of each first byte of up to 64; returns a bit for each first byte of a character. */
BOXES_TARGET static inline uint64_t BOXES_NAME(boxes_classify)(
    const Boxes *boxes, const uint8_t *data, int size, uint8_t *classes)
{
    uint64_t leads = 0, wide = 0;
    int at;
    for (at = 0; at < size; at += BOXES_WIDTH) {
#if defined(CLASSES)
        VECTOR bytes = LOAD(data + at);
        STORE(classes + at, CLASSES(boxes->ascii, bytes));
#else
        VECTOR bytes = LOAD(data + at), sum = EACH(0);
        int half;
        for (half = 0; half < 8; half++) /* a byte of another upper half looks up nothing, which is 0 */
            sum = OR(sum, LOOK(TABLE(boxes->ascii[half]), ADD(XOR(bytes, EACH(half << 4)), EACH(0x70))));
        STORE(classes + at, sum);
#endif
        leads |= (uint64_t)LEADS(bytes) << at;
        wide |= (uint64_t)HIGH(bytes) << at;
    }
    wide &= leads;
#if defined(WIDE_CLASSES)
    if (BOXES_COUNT(wide) > WIDE_CLASSES)
        wide = BOXES_NAME(boxes_classify_wide)(boxes, data, wide, classes);
#endif
    for (; wide; wide &= wide - 1) {
        at = boxes_lowest(wide);
        classes[at] = boxes_class(boxes, data + at);
    }
    return leads;
}

/* Writes the classes of the first bytes only, one behind the other. */
BOXES_TARGET static inline uint8_t *BOXES_NAME(boxes_compress)(const uint8_t *classes, uint64_t leads, uint8_t *to)
{
#if defined(COMPRESS)
    COMPRESS(to, classes, leads);
    to += BOXES_COUNT(leads);
#elif BOXES_BMI2
    int at;
    for (at = 0; at < 64; at += 8) {
        uint64_t eight, marks = _pdep_u64(leads >> at & 0xFF, 0x0101010101010101u) * 255;
        memcpy(&eight, classes + at, 8);
        eight = _pext_u64(eight, marks);
        memcpy(to, &eight, 8);
        to += BOXES_COUNT(leads >> at & 0xFF);
    }
#else
    for (; leads; leads &= leads - 1)
        *to++ = classes[boxes_lowest(leads)];
#endif
    return to;
}

/* Moves bit i of `bits` to the place of the i-th bit of `leads`. */
BOXES_TARGET static inline uint64_t BOXES_NAME(boxes_spread)(uint64_t bits, uint64_t leads)
{
#if BOXES_BMI2
    return _pdep_u64(bits, leads);
#else
    uint64_t spread = 0;
    for (; leads && bits; leads &= leads - 1, bits >>= 1)
        spread |= (bits & 1) * (leads & -leads);
    return spread;
#endif
}

BOXES_TARGET static void BOXES_NAME(boxes_test)(const Boxes *boxes, const uint8_t *characters, int count, Decided *decided)
{
    int at, rule, part;
    for (at = 0; at < count; at += 64) {
        uint64_t on = 0, unsure = 0;
        for (part = 0; part < 64 && at + part < count; part += BOXES_WIDTH) {
            const uint8_t *here = characters + at + part;
            VECTOR c3 = LOAD(here - 3), c2 = LOAD(here - 2), c1 = LOAD(here - 1), c0 = LOAD(here), next = LOAD(here + 1);
            VECTOR sure = EACH(0), doubtful = EACH(0);
            for (rule = 0; rule < boxes->n_rules; rule++) {
                const uint8_t(*table)[16] = boxes->rules[rule];
                VECTOR inside = AND(LOOK(TABLE(table[0]), c3), LOOK(TABLE(table[1]), c2));
                inside = AND(inside, AND(LOOK(TABLE(table[2]), c1), LOOK(TABLE(table[3]), c0)));
                inside = AND(inside, LOOK(TABLE(table[4]), next));
                sure = OR(sure, inside);
                doubtful = OR(doubtful, AND(inside, EACH(boxes->unsure[rule])));
            }
            on |= (uint64_t)NONZERO(sure) << part;
            unsure |= (uint64_t)NONZERO(doubtful) << part;
        }
        decided->on[at / 64] = on;
        decided->unsure[at / 64] = unsure;
    }
}

/* Decides what the rules leave to the automaton where a run of one class tells it.  The class 0 tells nothing: it is also
 * that of bytes in the middle of a character. */
BOXES_TARGET static void BOXES_NAME(boxes_settle)(
    const Boxes *boxes, const uint8_t *data, const uint8_t *classes, int size, int64_t open, Decided *decided)
{
    int block, blocks = (size + 63) / 64, begin = 0, end = 0; /* of the last run, */
    int next = 0, known = 0; /* and of a pretoken in it, if that is known */
    for (block = 0; block < blocks; block++) {
        uint64_t doubtful = decided->unsure[block];
        while (doubtful) {
            const int at = 64 * block + boxes_lowest(doubtful);
            const uint64_t bit = doubtful & -doubtful;
            const uint8_t here = classes[at];
            const int period = boxes->periods[here];
            int verdict = 0;
            doubtful ^= bit;
            if (!here || classes[at + 1] != here)
                continue;
            if (at >= end) {
                uint64_t other = 0;
                begin = at;
                if (period)
                    while (begin > 0 && classes[begin - 1] == here)
                        begin--;
                for (end = at; !other && end < size; end += other ? boxes_lowest(other) : BOXES_WIDTH)
                    other = NONZERO(XOR(LOAD(classes + end), EACH(here)));
                known = !begin && boxes_run_before(boxes, data, here, open);
                next = known ? -(int)open : 0;
            }
            if (period && !known && begin && begin < at) {
                known = (decided->on[begin / 64] & ~decided->unsure[begin / 64]) >> begin % 64 & 1;
                next = begin;
            }
            if (period && known) { /* and so is all of the run but its last character, as far as the block goes */
                const int behind = end - 1 < 64 * block + 64 ? end - 1 : 64 * block + 64;
                const uint64_t inside = (doubtful | bit) & ~(uint64_t)0 >> (64 * block + 64 - behind);
                uint64_t heads = 0;
                for (; next < behind; next += period)
                    heads |= next >= at ? (uint64_t)1 << next % 64 : 0;
                decided->unsure[block] &= ~inside;
                decided->on[block] &= ~inside | heads;
                doubtful &= ~inside;
                continue;
            }
            if (end < size && decided->leads[end / 64] >> end % 64 & 1)
                verdict = boxes->tails[here][classes[end]];
            if (verdict)
                decided->unsure[block] &= ~bit;
            if (verdict == BOXES_OFF)
                decided->on[block] &= ~bit;
        }
    }
}

BOXES_TARGET static void BOXES_NAME(boxes_decide)(
    const Boxes *boxes, const uint8_t *data, int size, const uint8_t before[3], int64_t open, int final, Decided *decided)
{
    uint8_t last[68], *classes = decided->bytes + BOXES_LEFT, *characters = classes, *end;
    uint64_t all = ~(uint64_t)0;
    int block, blocks = (size + 63) / 64, count = size;
    for (block = 0; block < blocks; block++) {
        const uint8_t *from = data + 64 * block;
        uint64_t inside = ~(uint64_t)0;
        int here = 64;
        if (size - 64 * block < 68) { /* behind the text nothing may be read */
            int left = size - 64 * block;
            memset(last, 0, 68);
            memcpy(last, from, left);
            from = last;
            if (left < 64) {
                inside = ((uint64_t)1 << left) - 1;
                here = left;
            }
        }
        decided->leads[block] = BOXES_NAME(boxes_classify)(boxes, from, here, classes + 64 * block) & inside;
        all &= decided->leads[block] | ~inside;
    }
    if (all != ~(uint64_t)0) {
        characters = end = decided->characters + BOXES_LEFT;
        for (block = 0; block < blocks; block++)
            end = BOXES_NAME(boxes_compress)(classes + 64 * block, decided->leads[block], end);
        count = (int)(end - characters);
    }
    memcpy(characters - 3, before, 3);
    if (final)
        characters[count] = boxes->end;
    BOXES_NAME(boxes_test)(boxes, characters, count, decided);
    if (characters != classes) {
        /* From bits of characters to bits of bytes, from the back: there are never more of the former. */
        int first = count;
        uint64_t on, unsure;
        decided->on[(count + 63) / 64] = decided->unsure[(count + 63) / 64] = 0;
        for (block = blocks - 1; block >= 0; block--) {
            int word, shift;
            first -= BOXES_COUNT(decided->leads[block]);
            word = first / 64;
            shift = first % 64;
            on = decided->on[word] >> shift;
            unsure = decided->unsure[word] >> shift;
            if (shift) {
                on |= decided->on[word + 1] << (64 - shift);
                unsure |= decided->unsure[word + 1] << (64 - shift);
            }
            decided->on[block] = BOXES_NAME(boxes_spread)(on, decided->leads[block]);
            decided->unsure[block] = BOXES_NAME(boxes_spread)(unsure, decided->leads[block]);
        }
    } else {
        uint64_t inside = size % 64 ? ((uint64_t)1 << size % 64) - 1 : ~(uint64_t)0;
        decided->on[blocks - 1] &= inside;
        decided->unsure[blocks - 1] &= inside;
    }
    BOXES_NAME(boxes_settle)(boxes, data, classes, size, open, decided);
}

BOXES_TARGET static int BOXES_NAME(boxes_flatten)(const Decided *decided, int block, int blocks, uint32_t **to)
{
    uint32_t *ends = *to;
    for (; block < blocks && !(decided->unsure[block] & decided->on[block]); block++) {
        uint64_t bits = decided->on[block];
        uint32_t *next = ends + BOXES_COUNT(bits), base = (uint32_t)block * 64;
#if defined(PLACES)
        VECTOR places = PLACES(bits);
        do {
            const VECTOR some = _mm512_cvtepu8_epi32(_mm512_castsi512_si128(places));
            STORE(ends, _mm512_add_epi32(some, _mm512_set1_epi32((int)base)));
            places = _mm512_alignr_epi64(places, places, 2);
            ends += 16;
        } while (ends < next);
#else
        do { /* a loop of fixed length foresees its end; most blocks have under 16 */
            int at;
            for (at = 0; at < 16; at++) {
#if BOXES_BMI2
                ends[at] = base + (uint32_t)_tzcnt_u64(bits);
#else
                ends[at] = base + (uint32_t)boxes_lowest(bits | (uint64_t)1 << 63);
#endif
                bits &= bits - 1;
            }
            ends += 16;
        } while (bits);
#endif
        ends = next;
    }
    *to = ends;
    return block;
}

#undef BOXES_TARGET
#undef BOXES_NAME
#undef BOXES_WIDTH
#undef BOXES_BMI2
#undef VECTOR
#undef LOAD
#undef STORE
#undef TABLE
#undef LOOK
#undef EACH
#undef AND
#undef OR
#undef XOR
#undef ADD
#undef NONZERO
#undef HIGH
#undef LEADS
#undef BOXES_COUNT
#undef CLASSES
#undef COMPRESS
#undef PLACES
#undef WIDE_CLASSES
