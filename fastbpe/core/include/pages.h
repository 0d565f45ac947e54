/* Zeroed memory for a large table that is read at random: huge pages where the system has them, touched as it is used.
 *
 * With 4 KB pages nearly every look-up misses the TLB as well, and a prefetch that misses it may be dropped. */
#ifndef FASTBPE_PAGES_H
#define FASTBPE_PAGES_H

#include <stdlib.h>

#if defined(__linux__)
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>
#include <sys/mman.h>
#ifndef MREMAP_FIXED
#define MREMAP_MAYMOVE 1
#define MREMAP_FIXED 2
#endif
extern void *mremap(void *, size_t, size_t, int, ...);

#if !defined(MADV_POPULATE_WRITE)
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#define FASTBPE_HUGE ((size_t)2 << 20)
#define PAGES_ROUND(size) (((size) + 0xFFFF) & ~(size_t)0xFFFF) /* 64 KB: the largest page of Linux */

static inline void *pages_map(size_t size, size_t small)
{
    /* Twice the alignment is mapped, and what stands out on both sides is given back. */
    char *start;
    size_t before;
    size = PAGES_ROUND(size);
    start = (char *)mmap(NULL, size + FASTBPE_HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == (char *)MAP_FAILED)
        return NULL;
    before = (FASTBPE_HUGE - (uintptr_t)start % FASTBPE_HUGE) % FASTBPE_HUGE;
    if (before)
        munmap(start, before);
    munmap(start + before + size, FASTBPE_HUGE - before);
    if (size > small)
        madvise(start + before + small, size - small, MADV_HUGEPAGE);
    return start + before;
}

/* Returns NULL on failure.  Below 2 MB the pages are small ones. */
static inline void *pages_alloc(size_t size) { return pages_map(size, size < FASTBPE_HUGE ? size : 0); }

/* The same for a table that begins small and grows where it is: its first 2 MB are small pages. */
static inline void *pages_reserve(size_t size) { return pages_map(size, FASTBPE_HUGE); }

/* Have each page of a part, whose ends are ends of pages, that will be used at random at once.  A page that is read before
 * it is written is mapped twice, and the second time every processor is told. */
static inline void pages_touch(void *memory, size_t begin, size_t end)
{
    size_t at;
    if (!madvise((char *)memory + begin, end - begin, MADV_POPULATE_WRITE))
        return;
    for (at = begin; at < end; at += begin >= FASTBPE_HUGE ? FASTBPE_HUGE : 4096)
        ((volatile char *)memory)[at] = 0;
}

static inline void pages_free(void *memory, size_t size)
{
    if (memory)
        munmap(memory, PAGES_ROUND(size));
}

/* Returns where they are with another size, more than 0; or NULL, which leaves them as they were.  Pages are moved, not
 * copied. */
static inline void *pages_resize(void *memory, size_t size, size_t wanted)
{
    void *result;
    size = PAGES_ROUND(size);
    if (PAGES_ROUND(wanted) <= size) {
        if (PAGES_ROUND(wanted) < size)
            munmap((char *)memory + PAGES_ROUND(wanted), size - PAGES_ROUND(wanted));
        return memory;
    }
    result = pages_map(wanted, wanted); /* where huge pages stay whole */
    if (result && mremap(memory, size, PAGES_ROUND(wanted), MREMAP_MAYMOVE | MREMAP_FIXED, result) == MAP_FAILED) {
        munmap(result, PAGES_ROUND(wanted));
        return NULL;
    }
    return result;
}

#else

static inline void *pages_alloc(size_t size) { return calloc(size, 1); }

static inline void *pages_reserve(size_t size) { return calloc(size, 1); }

static inline void pages_touch(void *memory, size_t begin, size_t end)
{
    (void)memory;
    (void)begin;
    (void)end;
}

static inline void pages_free(void *memory, size_t size)
{
    (void)size;
    free(memory);
}

static inline void *pages_resize(void *memory, size_t size, size_t wanted)
{
    (void)size;
    return realloc(memory, wanted);
}

#endif
#endif
