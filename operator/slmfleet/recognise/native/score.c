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
#define AHEAD 4

/* Where the compiler can, wide registers are used on machines that have them. */
#if defined(__x86_64__) && defined(__gnu_linux__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

/* Raised when a function or a struct changes: `native` uses no library of another version. */
int64_t slm_version(void)
{
    return 3;
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

/* Marks a bucket as seen; 1 the first time. */
static int first_time(uint64_t *seen, uint16_t bucket)
{
    uint64_t bit = 1ull << (bucket & 63);
    if (seen[bucket >> 6] & bit)
        return 0;
    seen[bucket >> 6] |= bit;
    return 1;
}

/* Buckets of a text, each once, in the order in which they were met.
 *
 * text     the part of the text that is looked at, in UTF-8: as it is where it is ASCII, else folded by the caller
 * words    buckets of the words where the caller has found them (a text that is not ASCII), else NULL
 * padded   room for length + 2 bytes
 * scratch  room for length numbers
 * seen     BUCKETS / 64 numbers: a bit a bucket, for slm_familiarity
 * out      room for 4 * length + 4 numbers
 * Returns how many.
 */
int64_t slm_features(const uint8_t *text, int64_t length, const uint16_t *words, int64_t word_count,
                     uint8_t *padded, uint16_t *scratch, uint64_t *seen, uint16_t *out)
{
    int64_t count = 0, end = length + 2;
    memset(seen, 0, BUCKETS / 8);
    folded(text, length, padded);
    if (!words) {
        word_count = ascii_words(padded + 1, length, scratch);
        words = scratch;
    }
    for (int64_t i = 0; i < word_count; i++) {
        if (first_time(seen, words[i]))
            out[count++] = words[i];
        if (i) {
            uint16_t pair = (uint16_t)(words[i - 1] * 31u + words[i] + 7u);
            if (first_time(seen, pair))
                out[count++] = pair;
        }
    }
    if (end < 5)
        return count;
    for (int64_t i = 0; i + 2 < end; i++) {
        const uint8_t *at = padded + i;
        uint32_t three = at[0] * 0x9E3779B1u + at[1] * 0x85EBCA77u + at[2] * 0xC2B2AE3Du;
        uint16_t bucket = (uint16_t)(three >> 16);
        if (first_time(seen, bucket))
            out[count++] = bucket;
        if (i + 4 < end) {
            uint32_t five = at[3] * 0x165667B1u + at[4] * 0xD6E8FEB9u + three * 0x27D4EB2Fu;
            bucket = (uint16_t)(five >> 16);
            if (first_time(seen, bucket))
                out[count++] = bucket;
        }
    }
    return count;
}

/* What a classifier is made of; arrays are the caller's and live as long as it. */
struct classifier {
    int64_t tasks;
    const float *idf;            /* BUCKETS */
    const uint16_t *row_tasks;   /* that a bucket has weights for: from row_starts[b] to row_starts[b + 1] */
    const int8_t *row_steps;     /* those weights, in steps of row_scale */
    const int64_t *row_starts;   /* BUCKETS + 1 */
    const int8_t *row_whole;     /* rows of buckets that many tasks have a weight in: one a task */
    const int32_t *row_place;    /* BUCKETS: the number of a bucket's row there, or -1 */
    const float *row_scale;      /* tasks */
    const float *bias;           /* tasks */
    const float *least;          /* tasks: the score that is asked of each */
    const uint16_t *buckets;     /* that a task has used, in order: from starts[k] to starts[k + 1] */
    const uint8_t *steps;        /* how usual each of them is */
    const int64_t *starts;       /* tasks + 1 */
    const float *absent;         /* tasks */
    const float *step;           /* tasks */
};

struct result {
    int64_t first, second;       /* furthest above what is asked of them; second is -1 where there is one task */
    float first_score, second_score;
};

/* Rows are far from each other, and no processor guesses where the next one is. */
static void fetch_row(const struct classifier *c, uint16_t bucket)
{
    if (c->row_place[bucket] >= 0) {
        const int8_t *row = c->row_whole + c->row_place[bucket] * c->tasks;
        for (int64_t k = 0; k < c->tasks; k += 64)
            __builtin_prefetch(row + k);
        return;
    }
    int64_t start = c->row_starts[bucket], end = c->row_starts[bucket + 1];
    for (int64_t at = start; at < end; at += 64)
        __builtin_prefetch(c->row_steps + at);
    for (int64_t at = start; at < end; at += 32)
        __builtin_prefetch(c->row_tasks + at);
}

/* total[k] = the sum of weight[b] * steps[b][k]. */
WIDE static void add_rows(const struct classifier *c, const uint16_t *found, int64_t count, float *total)
{
    int64_t tasks = c->tasks;
    memset(total, 0, (size_t)tasks * sizeof *total);
    for (int64_t i = 0; i < count; i++) {
        uint16_t bucket = found[i];
        float weight = c->idf[bucket];
        if (i + AHEAD < count)
            fetch_row(c, found[i + AHEAD]);
        if (c->row_place[bucket] >= 0) {
            const int8_t *row = c->row_whole + c->row_place[bucket] * tasks;
            for (int64_t k = 0; k < tasks; k++)
                total[k] += weight * (float)row[k];
            continue;
        }
        int64_t end = c->row_starts[bucket + 1];
        for (int64_t at = c->row_starts[bucket]; at < end; at++)
            total[c->row_tasks[at]] += weight * (float)c->row_steps[at];
    }
}

/* How usual a text's pieces are for a task: by a walk through what the task knows, which reads memory in order, where
 * that is short beside looking up each piece. */
float slm_familiarity(const struct classifier *c, const uint16_t *found, int64_t count, const uint64_t *seen,
                      int64_t task)
{
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

/* Scores of every task and the best two.
 *
 * found, count   the features; count 0 gives ABSENT everywhere
 * prompt         what the system prompt adds to each task's score, or NULL
 * scores         out, one a task
 */
void slm_score(const struct classifier *c, const uint16_t *found, int64_t count, const float *prompt, float *scores,
               struct result *out)
{
    int64_t tasks = c->tasks;
    if (count) {
        float norm = 0;
        for (int64_t i = 0; i < count; i++)
            norm += c->idf[found[i]] * c->idf[found[i]];
        add_rows(c, found, count, scores);
        norm = 1.0f / sqrtf(norm);
        for (int64_t k = 0; k < tasks; k++)
            scores[k] = scores[k] * c->row_scale[k] * norm + c->bias[k] + (prompt ? prompt[k] : 0.0f);
    } else {
        for (int64_t k = 0; k < tasks; k++)
            scores[k] = ABSENT;
    }
    int64_t first = 0, second = -1;
    for (int64_t k = 1; k < tasks; k++) {
        float above = scores[k] - c->least[k];
        if (above > scores[first] - c->least[first]) {
            second = first;
            first = k;
        } else if (second < 0 || above > scores[second] - c->least[second]) {
            second = k;
        }
    }
    out->first = first;
    out->second = second;
    out->first_score = scores[first];
    out->second_score = second < 0 ? 0.0f : scores[second];
}
