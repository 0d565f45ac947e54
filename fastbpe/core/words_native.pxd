# The words of a training, dealt out to threads; see words_native.pyx.

from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport int64_t, uint32_t

from fastbpe.core.train_part cimport Part, Side
from fastbpe.core.train_queue cimport Spelling

cdef enum:
    MAX_PARTS = 8

cdef enum:                        # what a part may be asked to do
    COUNT_DENSE, WRITE_DENSE, FILTER, COUNT, WRITE, SQUEEZE, VISIT, DEAL, QUIT

cdef struct Thread:
    PyThread_type_lock go         # locked while the thread has nothing to do
    PyThread_type_lock done       # locked while it works


cdef class Words:
    """Words, tokens, threads. Called by one thread; owns all its memory."""

    cdef Part parts[MAX_PARTS]
    cdef Thread threads[MAX_PARTS]
    cdef list helpers             # threading.Thread of part 1 and those after it
    cdef object failure
    cdef int n_parts, job
    cdef bint stop

    cdef Spelling spelling
    cdef size_t n_spelled, room_spelled
    cdef uint32_t *spans          # of each token, in places
    cdef uint32_t *sizes          # of each token, in what max_length is in
    cdef uint32_t *n_words        # of each token; kept where max_words is not 0
    cdef uint32_t max_words       # of a token; 0: any
    cdef uint32_t n_tokens, room_tokens     # number 0 is the separator
    cdef uint32_t most_tokens     # there will be no more
    cdef bint in_characters
    cdef uint32_t wide_from       # tokens that need 32-bit symbols
    cdef size_t part_places       # for fewer a thread is not worth its start
    cdef size_t n_born            # pairs that the merge in hand made
    cdef int64_t threshold
    cdef int64_t *sums            # while building: the filters of all parts, added
    cdef uint32_t a, b, new       # the merge in hand
    cdef uint32_t number          # of its lists
    cdef readonly dict seconds    # by phase

    cdef int breathe(self) except -1 with gil
    cdef int all_parts(self, int job, bint together) except -1 nogil
    cdef int finish(self, Part *part, int job) except -1 nogil
    cdef int in_parallel(self, int job) except -1 with gil
    cdef int task(self, Part *part, int job) except -1 nogil
    cdef bint deal(self, Part *part) noexcept nogil
    cdef int fill(self, Part *part, const int64_t[::1] offsets, source, const int64_t[::1] weights,
                  const uint32_t[:] chosen, uint32_t *map_) except -1
    cdef int squeeze(self, Part *part) except -1 nogil
    cdef int widen(self) except -1 nogil
    cdef int need_token(self, size_t length) except -1 nogil
    cdef int grow_sides(self, Side **sides, uint32_t room) except -1 nogil
    cdef void finish_token(self, uint32_t length, uint32_t span, uint32_t size, uint32_t n_words) noexcept nogil
    cdef uint32_t words_of_both(self, uint32_t a, uint32_t b) noexcept nogil
    cdef int add_token(self, bytes token) except -1
    cdef bytes token(self, uint32_t token)
