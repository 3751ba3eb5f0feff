/* Where matches of many regular expressions may begin: an automaton's sets of places, made into states as they are met.
 *
 * The places and what follows them come from `curation/automaton.py`; a text is read from its end. A state is the set
 * of places that may be read next, and the expressions that have just ended, in order. It is made once and then found
 * in a table, by state and class of the next character; when there is no room for another one, all are forgotten, so a
 * text costs at most a set of places for each character. No allocation, no locale: all memory is the caller's, who
 * lets one thread at a time in.
 */
#include <stdint.h>
#include <string.h>

#define UNKNOWN 0xffff

struct automaton {
    int64_t expressions;
    int64_t classes;             /* of characters; the last is the edge of a text */
    int64_t astral;              /* the class of characters above 0xffff */
    int64_t place_words, words;  /* of 64 bits, in a set: place n is bit n, expression e bit 64 * place_words + e */
    const uint8_t *class_of;     /* 0x10000 */
    const uint64_t *reads;       /* classes * place_words: places that read a class */
    const int32_t *follow_from;  /* 64 * place_words + 1 */
    const int32_t *follow;       /* bits that follow a place */
    const uint64_t *begun;       /* classes * words: what follows places that may be read anywhere */
};

struct states {
    int64_t most, count;         /* at most 0x7fff; state 0 is that of a text's end, before anything is read */
    int64_t slots;               /* of the table by hash: a power of two, more than `most` */
    int64_t made, forgotten;     /* since the beginning, for whoever asks what a text cost */
    uint16_t *next;              /* most * classes: twice a state, odd where expressions end; or UNKNOWN */
    uint64_t *sets;              /* (most + 1) * words: row `count` is that of a set which is not yet a state */
    int32_t *table;              /* slots: a state + 1, or 0 */
};

static void forget(const struct automaton *a, struct states *s)
{
    memset(s->table, 0, (size_t)s->slots * sizeof *s->table);
    memset(s->sets, 0, (size_t)a->words * sizeof *s->sets);
    for (int64_t c = 0; c < a->classes; c++)
        s->next[c] = UNKNOWN;
    s->count = 1;
}

/* Must be called once before `slm_scan`. */
void slm_scan_begin(const struct automaton *a, struct states *s)
{
    s->made = s->forgotten = 0;
    forget(a, s);
}

/* Writes the set that follows a state over a class. */
static void step(const struct automaton *a, const uint64_t *from, uint8_t class, uint64_t *set)
{
    const uint64_t *reads = a->reads + (int64_t)class * a->place_words;
    memcpy(set, a->begun + (int64_t)class * a->words, (size_t)a->words * sizeof *set);
    for (int64_t w = 0; w < a->place_words; w++)
        for (uint64_t bits = from[w] & reads[w]; bits; bits &= bits - 1) {
            int64_t place = w * 64 + __builtin_ctzll(bits);
            for (int32_t j = a->follow_from[place]; j < a->follow_from[place + 1]; j++)
                set[a->follow[j] >> 6] |= 1ull << (a->follow[j] & 63);
        }
}

static uint64_t hash_of(const uint64_t *set, int64_t words)
{
    uint64_t h = 0, other = 0; /* two, so that neither waits for the other */
    for (int64_t w = 0; w < words; w++) {
        uint64_t mixed = (h ^ set[w]) * 0x9E3779B97F4A7C15ull;
        h = other;
        other = mixed ^ mixed >> 32;
    }
    return h ^ (other << 1 | other >> 63);
}

/* The entry of `next` for a state and a class that it says nothing of yet. */
static __attribute__((noinline)) int32_t entered(const struct automaton *a, struct states *s, int32_t state,
                                                 uint8_t class)
{
    const size_t size = (size_t)a->words * sizeof *s->sets;
    uint64_t *set = s->sets + s->count * a->words, any = 0;
    step(a, s->sets + (int64_t)state * a->words, class, set);
    for (int64_t w = a->place_words; w < a->words; w++)
        any |= set[w];
    uint64_t hash = hash_of(set, a->words), mask = (uint64_t)(s->slots - 1), slot = hash & mask;
    for (; s->table[slot]; slot = (slot + 1) & mask)
        if (!memcmp(s->sets + (int64_t)(s->table[slot] - 1) * a->words, set, size))
            break;
    int known = s->table[slot] || s->count < s->most;
    if (!known) {
        forget(a, s);
        s->forgotten++;
        memcpy(s->sets + a->words, set, size);
        slot = hash & mask;
    }
    if (!s->table[slot]) {
        for (int64_t c = 0; c < a->classes; c++)
            s->next[s->count * a->classes + c] = UNKNOWN;
        s->table[slot] = (int32_t)++s->count;
        s->made++;
    }
    int32_t entry = (s->table[slot] - 1) * 2 + (any != 0);
    if (known)
        s->next[(int64_t)state * a->classes + class] = (uint16_t)entry;
    return entry;
}

/* In order of expressions, then of places; they were found from the text's end on. `spare` has room for as many. */
static void sort(const struct automaton *a, int32_t *expressions, int32_t *begins, int64_t count, int32_t *spare,
                 int64_t *places)
{
    memset(places, 0, (size_t)(a->expressions + 1) * sizeof *places);
    for (int64_t i = 0; i < count; i++)
        places[expressions[i] + 1]++;
    for (int64_t e = 0; e < a->expressions; e++)
        places[e + 1] += places[e];
    memcpy(spare, begins, (size_t)count * sizeof *begins);
    for (int64_t i = count - 1; i >= 0; i--)
        begins[places[expressions[i]]++] = spare[i];
    int64_t at = 0; /* places[e] is now where expression e's end */
    for (int64_t e = 0; e < a->expressions; e++)
        for (; at < places[e]; at++)
            expressions[at] = (int32_t)e;
}

struct found {
    int64_t room;                /* of the three below, in all texts */
    int32_t *expressions;
    int32_t *begins;             /* from the text's own beginning */
    int32_t *spare;
    int64_t *places;             /* expressions + 1 */
};

/* Texts stand one after another in `text`, `width` (1 or 4) bytes a character; `ends[t]` is where text t ends.
 * `until[t]`: where its finds end. A text with more finds than `share` in every character and what `few` gives is left:
 * its finds are none, and `until[t]` is -1 less where they would begin. Returns finds in all, or -1 where they might not
 * fit. */
int64_t slm_scan(const struct automaton *a, struct states *s, struct found *f, const void *text, int64_t width,
                 int64_t texts, const int64_t *ends, int64_t share, int64_t few, int64_t *until)
{
    const uint8_t *narrow = width == 1 ? text : 0;
    const uint32_t *wide = width == 4 ? text : 0;
    const uint8_t edge = (uint8_t)(a->classes - 1);
    int64_t total = 0, begin = 0;
    for (int64_t t = 0; t < texts; begin = ends[t], t++) {
        int64_t length = ends[t] - begin, most = length * share + few, count = 0;
        int32_t state = 0, left = 0;
        if (length < 0 || length > INT32_MAX - 1 || f->room - total < most)
            return -1;
        for (int64_t at = length; at >= -1; at--) {
            uint8_t class = edge;
            if (at >= 0 && at < length) {
                uint32_t c = narrow ? narrow[begin + at] : wide[begin + at];
                class = c < 0x10000 ? a->class_of[c] : (uint8_t)a->astral;
            }
            int32_t entry = s->next[(int64_t)state * a->classes + class];
            if (entry == UNKNOWN)
                entry = entered(a, s, state, class);
            state = entry >> 1;
            if (!(entry & 1))
                continue;
            for (int64_t w = a->place_words; w < a->words && !left; w++)
                for (uint64_t bits = s->sets[(int64_t)state * a->words + w]; bits; bits &= bits - 1) {
                    if (count == most) {
                        left = 1;
                        break;
                    }
                    f->expressions[total + count] = (int32_t)((w - a->place_words) * 64 + __builtin_ctzll(bits));
                    f->begins[total + count++] = (int32_t)(at + 1);
                }
            if (left) {
                count = 0;
                break;
            }
        }
        if (count > 1)
            sort(a, f->expressions + total, f->begins + total, count, f->spare, f->places);
        total += count;
        until[t] = left ? -1 - total : total;
    }
    return total;
}
