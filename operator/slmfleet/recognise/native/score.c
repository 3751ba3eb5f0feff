/* The classifier's arithmetic for one call: a text to its features, features to scores, the best two tasks.
 *
 * The same as features.py and weights.py do with numpy, bit for bit in the features; there are some forty small array
 * operations there, and each costs more than its work. No allocation, no state, no locale: all memory is the caller's.
 * Built as a plain shared library and called through ctypes (`native.py`), so that it needs no header of Python's.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define BUCKETS 65536
#define ABSENT (-30.0f)
#define WALKED 16
#define AHEAD 12

/* Where the compiler can, wide registers are used on machines that have them. */
#if defined(__x86_64__) && defined(__gnu_linux__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

/* Raised when a function or a struct changes: `native` uses no library of another version. */
int64_t slm_version(void)
{
    return 5;
}

static uint32_t crc_table[256];

__attribute__((constructor)) static void make_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = (c & 1) ? 0xEDB88320u ^ (c >> 1) : c >> 1;
        crc_table[i] = c;
    }
}

static uint16_t word_bucket(const uint8_t *text, int64_t length)
{
    uint32_t c = 0xFFFFFFFFu;
    for (int64_t i = 0; i < length; i++)
        c = crc_table[(c ^ text[i]) & 255] ^ (c >> 8);
    return (uint16_t)((c ^ 0xFFFFFFFFu) >> 16);
}

/* As Python's `\w` and `\s` see ASCII. */
static int is_word(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || c == '_';
}

static int is_space(uint8_t c)
{
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31);
}

/* Lower case, digits as 0, a space before and after: what n-grams are made of. `out` has room for length + 2. */
static void folded(const uint8_t *text, int64_t length, uint8_t *out)
{
    *out++ = ' ';
    for (int64_t i = 0; i < length; i++) {
        uint8_t c = text[i];
        if (c >= 'A' && c <= 'Z')
            c = (uint8_t)(c + 32);
        if (c >= '0' && c <= '9')
            c = '0';
        *out++ = c;
    }
    *out = ' ';
}

/* Words and single marks of an ASCII text. `out` has room for `length`. */
static int64_t ascii_words(const uint8_t *text, int64_t length, uint16_t *out)
{
    int64_t count = 0, i = 0;
    while (i < length) {
        int64_t start = i;
        if (is_word(text[i])) {
            while (i < length && is_word(text[i]))
                i++;
            out[count++] = word_bucket(text + start, i - start);
        } else {
            if (!is_space(text[i]))
                out[count++] = word_bucket(text + i, 1);
            i++;
        }
    }
    return count;
}

/* What is to be known of a bucket before its weights are read: one place in memory, since each costs a wait. */
struct bucket {
    float idf;
    int32_t place;               /* of its row in row_whole, or -1 where it has none there */
    uint32_t start, end;         /* of its row in row_tasks and row_steps */
};

/* What a classifier is made of; arrays are the caller's and live as long as it. */
struct classifier {
    int64_t tasks;
    const struct bucket *rows;   /* BUCKETS */
    const uint16_t *row_tasks;   /* that a bucket has weights for */
    const int8_t *row_steps;     /* those weights, in steps of row_scale */
    const int8_t *row_whole;     /* rows of buckets that many tasks have a weight in: one a task */
    const float *row_scale;      /* tasks */
    const float *bias;           /* tasks */
    const float *least;          /* tasks: the score that is asked of each */
    const uint16_t *buckets;     /* that a task has used, in order: from starts[k] to starts[k + 1] */
    const uint8_t *steps;        /* how usual each of them is */
    const int64_t *starts;       /* tasks + 1 */
    const float *absent;         /* tasks */
    const float *step;           /* tasks */
};

/* One call's memory, and what is found in it. TEXT is the longest text. */
struct call {
    uint8_t *padded;             /* TEXT + 2 */
    uint16_t *scratch;           /* TEXT */
    uint64_t *seen;              /* BUCKETS / 64: a bit a bucket */
    uint16_t *found;             /* 4 * TEXT + 4: buckets, each once, in the order in which they were met */
    float *scores;               /* one a task */
    int64_t count;               /* of what was found */
    int64_t first, second;       /* furthest above what is asked of them; second is -1 where there is one task */
    float first_score, second_score;
};

/* Takes a bucket in where it is new, and begins to fetch what will be asked of it. */
static inline void meet(const struct classifier *c, struct call *call, uint16_t bucket)
{
    uint64_t *word = call->seen + (bucket >> 6), bit = 1ull << (bucket & 63);
    __builtin_prefetch(c->rows + bucket);
    call->found[call->count] = bucket;
    call->count += !(*word & bit); /* no branch: nobody could guess it */
    *word |= bit;
}

/* Buckets of a text: words, pairs of words, bytes by three and by five. */
static void find(const struct classifier *c, struct call *call, const uint8_t *text, int64_t length,
                 const uint16_t *words, int64_t word_count)
{
    int64_t end = length + 2;
    const uint8_t *padded = call->padded;
    call->count = 0;
    memset(call->seen, 0, BUCKETS / 8);
    folded(text, length, call->padded);
    if (!words) {
        word_count = ascii_words(padded + 1, length, call->scratch);
        words = call->scratch;
    }
    for (int64_t i = 0; i < word_count; i++) {
        meet(c, call, words[i]);
        if (i)
            meet(c, call, (uint16_t)(words[i - 1] * 31u + words[i] + 7u));
    }
    if (end < 5)
        return;
    for (int64_t i = 0; i + 2 < end; i++) {
        const uint8_t *at = padded + i;
        uint32_t three = at[0] * 0x9E3779B1u + at[1] * 0x85EBCA77u + at[2] * 0xC2B2AE3Du;
        meet(c, call, (uint16_t)(three >> 16));
        if (i + 4 < end) {
            uint32_t five = at[3] * 0x165667B1u + at[4] * 0xD6E8FEB9u + three * 0x27D4EB2Fu;
            meet(c, call, (uint16_t)(five >> 16));
        }
    }
}

/* Rows are far from each other, and no processor guesses where the next one is. */
static void fetch_row(const struct classifier *c, const struct bucket *bucket)
{
    if (bucket->place >= 0) {
        const int8_t *row = c->row_whole + bucket->place * c->tasks;
        for (int64_t k = 0; k < c->tasks; k += 64)
            __builtin_prefetch(row + k);
        return;
    }
    for (uint32_t at = bucket->start; at < bucket->end; at += 64)
        __builtin_prefetch(c->row_steps + at);
    for (uint32_t at = bucket->start; at < bucket->end; at += 32)
        __builtin_prefetch(c->row_tasks + at);
}

/* scores[k] = the sum of idf[b] * steps[b][k]. */
WIDE static void add_rows(const struct classifier *c, const struct call *call)
{
    int64_t tasks = c->tasks, count = call->count;
    const uint16_t *found = call->found;
    float *total = call->scores;
    memset(total, 0, (size_t)tasks * sizeof *total);
    for (int64_t i = 0; i < count && i < AHEAD; i++)
        fetch_row(c, c->rows + found[i]);
    for (int64_t i = 0; i < count; i++) {
        const struct bucket *bucket = c->rows + found[i];
        float weight = bucket->idf;
        if (i + AHEAD < count)
            fetch_row(c, c->rows + found[i + AHEAD]);
        if (bucket->place >= 0) {
            const int8_t *row = c->row_whole + bucket->place * tasks;
            for (int64_t k = 0; k < tasks; k++)
                total[k] += weight * (float)row[k];
            continue;
        }
        for (uint32_t at = bucket->start; at < bucket->end; at++)
            total[c->row_tasks[at]] += weight * (float)c->row_steps[at];
    }
}

/* How usual a text's pieces are for a task: by a walk through what the task knows, which reads memory in order, where
 * that is short beside looking up each piece. */
float slm_familiarity(const struct classifier *c, const struct call *call, int64_t task)
{
    const uint16_t *found = call->found;
    const uint64_t *seen = call->seen;
    int64_t count = call->count;
    const uint16_t *known = c->buckets + c->starts[task];
    const uint8_t *steps = c->steps + c->starts[task];
    int64_t size = c->starts[task + 1] - c->starts[task], sum = 0;
    if (!count)
        return ABSENT;
    if (size < WALKED * count) {
        for (int64_t i = 0; i < size; i++)
            sum += steps[i] & -(int64_t)(seen[known[i] >> 6] >> (known[i] & 63) & 1);
    } else {
        for (int64_t i = 0; i < count; i++) {
            const uint16_t *at = known;
            for (int64_t left = size; left > 1;) { /* a binary search without a branch to guess wrong */
                int64_t half = left / 2;
                at += (at[half - 1] < found[i]) * half;
                left -= half;
            }
            sum += *at == found[i] ? steps[at - known] : 0;
        }
    }
    return c->absent[task] + (float)sum * c->step[task] / (float)count;
}

/* Scores of every task for a text, and the best two.
 *
 * text     the part of the text that is looked at, in UTF-8: as it is where it is ASCII, else folded by the caller
 * words    buckets of the words where the caller has found them (a text that is not ASCII), else NULL
 * prompt   what the system prompt adds to each task's score, or NULL
 */
void slm_best(const struct classifier *c, struct call *call, const uint8_t *text, int64_t length,
              const uint16_t *words, int64_t word_count, const float *prompt)
{
    int64_t tasks = c->tasks, first = 0, second = -1;
    float *scores = call->scores;
    find(c, call, text, length, words, word_count);
    if (call->count) {
        float norm = 0;
        for (int64_t i = 0; i < call->count; i++) {
            float idf = c->rows[call->found[i]].idf;
            norm += idf * idf;
        }
        add_rows(c, call);
        norm = 1.0f / sqrtf(norm);
        for (int64_t k = 0; k < tasks; k++)
            scores[k] = scores[k] * c->row_scale[k] * norm + c->bias[k] + (prompt ? prompt[k] : 0.0f);
    } else {
        for (int64_t k = 0; k < tasks; k++)
            scores[k] = ABSENT;
    }
    for (int64_t k = 1; k < tasks; k++) {
        float above = scores[k] - c->least[k];
        if (above > scores[first] - c->least[first]) {
            second = first;
            first = k;
        } else if (second < 0 || above > scores[second] - c->least[second]) {
            second = k;
        }
    }
    call->first = first;
    call->second = second;
    call->first_score = scores[first];
    call->second_score = second < 0 ? 0.0f : scores[second];
}
