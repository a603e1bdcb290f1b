/* Attention over the block cache: any number of new rows per sequence, prefill and decode alike.
 *
 * Numbers are handled in words of 32 bits: one float, or a pair of bfloat16 that AVX512-BF16 multiplies and adds at
 * once. One layer of the cache is laid out so that neither product needs a sum across a vector:
 *   keys   [blocks, kv_heads, head_dim / STEP, block_size] words: a vector holds one word of 16 tokens;
 *   values [blocks, kv_heads, block_size / STEP, head_dim] words: a vector holds 16 numbers of STEP tokens.
 *
 * A tile is a few consecutive rows of one sequence. With the query heads that share a key/value head they make the
 * queries that read the same keys and values. Each query's own arithmetic is the same in every tile: a
 * score depends on its query and key alone, sums run over token positions in vectors that begin at multiples of 16,
 * and tokens that a row does not see add exact zeros. So a row's result does not depend on how its sequence was cut
 * into chunks, or on the company.
 *
 * This file is included twice by itself, once per element type (float and bfloat16).
 */
#ifndef T
#include "vectors.h"

#ifdef __AVX512F__
enum { WIDE = 4 }; /* vectors beside each other in registers, times up to 4 queries */
#else
enum { WIDE = 1 };
#endif

/* What a pass's layers have in common. tiles: [count][4] = first row, rows, position of the first row, and where the
 * sequence's block ids begin in tables. cosines, sines: [rows, head_dim], or null where rows come rotated. */
struct pass {
    const int64_t *tiles, *tables;
    int64_t count, kv_heads, group, head_dim, block_size;
    const void *cosines, *sines;
};

/* Of one layer: where rows come from, with element strides per row and head, and where they go. */
struct layer {
    void *out, *keys, *values;
    const void *query, *key, *value;
    int64_t query_row, query_head, key_row, key_head, value_row, value_head, window;
    float scale;
};

static inline f16v dot_f32(f16v total, const float *vector, float word) { return total + load_f32(vector) * word; }
static inline f16v dot_bf16(f16v total, const uint32_t *vector, uint32_t word) {
#ifdef __AVX512BF16__
    return (f16v)_mm512_dpbf16_ps((__m512)total, (__m512bh)_mm512_loadu_si512(vector),
                                  (__m512bh)_mm512_set1_epi32((int)word));
#else
    u16v pair, low, high;
    memcpy(&pair, vector, sizeof pair);
    low = pair << 16, high = pair & 0xFFFF0000u;
    f16v first, second;
    memcpy(&first, &low, sizeof first);
    memcpy(&second, &high, sizeof second);
    return total + first * get_bf16((const uint16_t *)&word) + second * get_bf16((const uint16_t *)&word + 1);
#endif
}

#define T float
#define WORD float
#define NAME(x) x##_f32
#include "attention.c"
#undef T
#undef WORD
#undef NAME
#define T uint16_t
#define WORD uint32_t
#define NAME(x) x##_bf16
#include "attention.c"
#else

enum { NAME(STEP) = sizeof(WORD) / sizeof(T) };

/* out = in, rotated by the row's angles where there are any (Su et al. 2021, in halves as Llama's code does it). */
static void NAME(rotate)(T *out, const T *in, const struct pass *pass, int64_t row) {
    int64_t size = pass->head_dim, half = size / 2;
    if (!pass->cosines) {
        memcpy(out, in, (size_t)size * sizeof(T));
        return;
    }
    const T *cosine = (const T *)pass->cosines + row * size, *sine = (const T *)pass->sines + row * size;
    int64_t d = 0;
    for (; d + LANES <= half; d += LANES) {
        f16v low = NAME(load)(in + d), high = NAME(load)(in + half + d);
        NAME(round)(out + d, low * NAME(load)(cosine + d) - high * NAME(load)(sine + d));
        NAME(round)(out + half + d, high * NAME(load)(cosine + half + d) + low * NAME(load)(sine + half + d));
    }
    for (; d < half; d++) {
        float low = NAME(get)(in + d), high = NAME(get)(in + half + d);
        NAME(put)(out + d, low * NAME(get)(cosine + d) - high * NAME(get)(sine + d));
        NAME(put)(out + half + d, high * NAME(get)(cosine + half + d) + low * NAME(get)(sine + half + d));
    }
}

/* Writes the keys and values of a tile's rows for one key/value head into their places in the cache. */
static void NAME(store)(const struct pass *pass, const struct layer *layer, const int64_t *tile, int64_t head) {
    int64_t dim = pass->head_dim, size = pass->block_size;
    for (int64_t r = 0; r < tile[1]; r++) {
        int64_t row = tile[0] + r, position = tile[2] + r, offset = position % size;
        int64_t place = (pass->tables[tile[3] + position / size] * pass->kv_heads + head) * size * dim;
        WORD turned[dim / NAME(STEP)], *keys = (WORD *)((T *)layer->keys + place) + offset;
        T *values = (T *)layer->values + place + offset / NAME(STEP) * dim * NAME(STEP) + offset % NAME(STEP);
        const T *value = (const T *)layer->value + row * layer->value_row + head * layer->value_head;
        NAME(rotate)((T *)turned, (const T *)layer->key + row * layer->key_row + head * layer->key_head, pass, row);
        for (int64_t w = 0; w < dim / NAME(STEP); w++) keys[w * size] = turned[w];
        for (int64_t d = 0; d < dim; d++) values[d * NAME(STEP)] = value[d];
    }
}

/* Scores of `queries` queries against `wide` vectors of 16 keys, each `words` words long. */
static inline __attribute__((always_inline)) void NAME(score)(
    float *scores, int64_t stride, const WORD *query, int64_t words, const WORD *const *keys, int64_t block_size,
    float scale, const int queries, const int wide) {
    f16v total[4][WIDE];
    for (int q = 0; q < queries; q++)
        for (int w = 0; w < wide; w++) total[q][w] = (f16v){0};
    for (int64_t d = 0; d < words; d++)
        for (int q = 0; q < queries; q++)
            for (int w = 0; w < wide; w++)
                total[q][w] = NAME(dot)(total[q][w], keys[w] + d * block_size, query[q * words + d]);
    for (int q = 0; q < queries; q++)
        for (int w = 0; w < wide; w++) *(f16v *)(scores + q * stride + w * LANES) = total[q][w] * scale;
}

/* Weighted sums of `wide` vectors of 16 numbers of every token from block `first` to block `last`. */
static inline __attribute__((always_inline)) void NAME(mix)(
    f16v *mixed, const WORD *weights, int64_t stride, const WORD *values, const int64_t *blocks, int64_t first,
    int64_t last, int64_t block_stride, int64_t block_words, int64_t dim, const int queries, const int wide) {
    f16v total[4][WIDE];
    for (int q = 0; q < queries; q++)
        for (int w = 0; w < wide; w++) total[q][w] = (f16v){0};
    for (int64_t block = first; block < last; block++) {
        const WORD *place = values + blocks[block] * block_stride, *weight = weights + (block - first) * block_words;
        for (int64_t t = 0; t < block_words; t++)
            for (int q = 0; q < queries; q++)
                for (int w = 0; w < wide; w++)
                    total[q][w] = NAME(dot)(total[q][w], place + t * dim + w * LANES, weight[q * stride + t]);
    }
    for (int q = 0; q < queries; q++)
        for (int w = 0; w < wide; w++) mixed[q * WIDE + w] = total[q][w];
}

/* Calls with the number of queries known to the compiler, so that sums stay in registers. */
#define BY_QUERIES(count, call)     \
    switch (count) {                \
        case 1: call(1); break;     \
        case 2: call(2); break;     \
        case 3: call(3); break;     \
        default: call(4); break;    \
    }

/* Scores -> weights exp(score - max), zero outside [begin, end); returns their sum as rounded. */
static float NAME(soften)(float *scores, T *weights, int64_t count, int64_t begin, int64_t end) {
    float tops[LANES], top;
    for (int64_t i = 0; i < begin; i++) scores[i] = -INFINITY;
    for (int64_t i = end; i < count; i++) scores[i] = -INFINITY;
    memcpy(tops, scores, sizeof tops);
    for (int64_t i = LANES; i < count; i += LANES)
        for (int l = 0; l < LANES; l++) tops[l] = scores[i + l] > tops[l] ? scores[i + l] : tops[l];
    top = tops[0];
    for (int l = 1; l < LANES; l++) top = tops[l] > top ? tops[l] : top;
    for (int64_t i = 0; i < count; i += LANES)
        for (int l = 0; l < LANES; l++) scores[i + l] = exp_neg(scores[i + l] - top);
    f16v total = {0};
    for (int64_t i = 0; i < count; i += LANES) {
        NAME(round)(weights + i, load_f32(scores + i));
        total += NAME(load)(weights + i);
    }
    return sum(total);
}

/* Brings a block of one key/value head near. */
static inline void NAME(prefetch)(const WORD *block, int64_t words) {
    for (int64_t w = 0; w < words; w += LANES) __builtin_prefetch(block + w);
}

/* Attention of a tile's rows for the query heads of one key/value head. What the thread reads next, the keys and
 * values of `next_head` of the tile `next`, is fetched meanwhile: where a sequence has one row, memory sets the pace. */
static void NAME(attend_tile)(const struct pass *pass, const struct layer *layer, const int64_t *tile, int64_t head,
                              const int64_t *next, int64_t next_head, float *scores, T *weights, int64_t stride) {
    int64_t dim = pass->head_dim, size = pass->block_size, words = dim / NAME(STEP), group = pass->group;
    int64_t head_words = size * words, block_stride = pass->kv_heads * head_words, queries = tile[1] * group;
    int64_t end = tile[2] + tile[1], oldest = tile[2] + 1 - layer->window;
    int64_t first = layer->window && oldest > 0 ? oldest / size : 0, last = (end + size - 1) / size;
    int64_t count = (last - first) * size;
    const WORD *keys = (const WORD *)layer->keys + head * head_words;
    const WORD *values = (const WORD *)layer->values + head * head_words;
    const int64_t *blocks = pass->tables + tile[3];
    WORD query[queries * words];
    float factor[queries];
    for (int64_t q = 0; q < queries; q++) {
        int64_t row = tile[0] + q / group, at = head * group + q % group;
        NAME(rotate)((T *)(query + q * words), (const T *)layer->query + row * layer->query_row + at * layer->query_head,
                     pass, row);
    }
    for (int64_t begin = 0; begin < count;) {
        const int wide = count - begin >= WIDE * LANES ? WIDE : 1;
        const WORD *place[WIDE];
        for (int w = 0; w < wide; w++) {
            int64_t at = begin + w * LANES;
            place[w] = keys + blocks[first + at / size] * block_stride + at % size;
        }
        for (int64_t q = 0; q < queries; q += 4) {
#define SCORE(n)                                                                                                       \
    if (wide == WIDE)                                                                                                  \
        NAME(score)(scores + q * stride + begin, stride, query + q * words, words, place, size, layer->scale, n, WIDE); \
    else                                                                                                               \
        NAME(score)(scores + q * stride + begin, stride, query + q * words, words, place, size, layer->scale, n, 1)
            BY_QUERIES(queries - q, SCORE)
#undef SCORE
        }
        for (int64_t at = begin; next && at < begin + wide * LANES; at += LANES)
            if (at % size == 0 && (first + at / size) * size < next[1] + next[2]) {
                int64_t block = (pass->tables[next[3] + first + at / size] * pass->kv_heads + next_head) * head_words;
                NAME(prefetch)((const WORD *)layer->keys + block, head_words);
                NAME(prefetch)((const WORD *)layer->values + block, head_words);
            }
        begin += wide * LANES;
    }
    for (int64_t q = 0; q < queries; q++) {
        int64_t context = tile[2] + q / group + 1;
        int64_t seen = layer->window && context > layer->window ? context - layer->window : 0;
        factor[q] = 1.0f / NAME(soften)(scores + q * stride, weights + q * stride, count, seen - first * size,
                                        context - first * size);
    }
    for (int64_t d = 0; d < dim;) {
        const int wide = dim - d >= WIDE * LANES ? WIDE : 1;
        for (int64_t q = 0; q < queries; q += 4) {
            f16v mixed[4 * WIDE];
            const WORD *weight = (const WORD *)(weights + q * stride);
#define MIX(n)                                                                                                        \
    if (wide == WIDE)                                                                                                 \
        NAME(mix)(mixed, weight, stride / NAME(STEP), values + d, blocks, first, last, block_stride,                  \
                  size / NAME(STEP), dim, n, WIDE);                                                                   \
    else                                                                                                              \
        NAME(mix)(mixed, weight, stride / NAME(STEP), values + d, blocks, first, last, block_stride,                  \
                  size / NAME(STEP), dim, n, 1)
            BY_QUERIES(queries - q, MIX)
#undef MIX
            for (int64_t n = q; n < queries && n < q + 4; n++) {
                int64_t row = tile[0] + n / group, at = head * group + n % group;
                T *out = (T *)layer->out + (row * pass->kv_heads * group + at) * dim + d;
                for (int w = 0; w < wide; w++) NAME(round)(out + w * LANES, mixed[(n - q) * WIDE + w] * factor[n]);
            }
        }
        d += wide * LANES;
    }
}
#undef BY_QUERIES

/* Stores the new keys and values of all rows, then attends with all rows. out: [rows, heads, head_dim] contiguous.
 * head_dim and block_size are multiples of 16. Returns whether memory ran out. */
int NAME(attend)(const struct pass *pass, const struct layer *layer) {
    int64_t heads = pass->kv_heads, work = pass->count * heads, longest = 0, most = 0;
    int failed = 0;
    for (int64_t i = 0; i < pass->count; i++) {
        const int64_t *tile = pass->tiles + 4 * i;
        longest = tile[1] + tile[2] > longest ? tile[1] + tile[2] : longest;
        most = tile[1] > most ? tile[1] : most;
    }
    int64_t stride = (longest + pass->block_size - 1) / pass->block_size * pass->block_size;
    int64_t parts = most == 1 && work > 64 ? work / 8 : work;
    size_t numbers = (size_t)(most * pass->group * stride);
#pragma omp parallel
    {
        float *scores = aligned_alloc(64, (numbers * (sizeof(float) + sizeof(T)) + 63) / 64 * 64);
        if (!scores) failed = 1;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < work; i++) NAME(store)(pass, layer, pass->tiles + 4 * (i / heads), i % heads);
#pragma omp for schedule(dynamic, 1)
        for (int64_t part = 0; part < parts; part++)
            for (int64_t i = part * work / parts, end = (part + 1) * work / parts; scores && i < end; i++) {
                const int64_t *next = i + 1 < end && most == 1 ? pass->tiles + 4 * ((i + 1) / heads) : 0;
                NAME(attend_tile)(pass, layer, pass->tiles + 4 * (i / heads), i % heads, next, (i + 1) % heads, scores,
                                  (T *)(scores + numbers), stride);
            }
        free(scores);
    }
    return failed;
}
#endif
