/* CPU kernels of the engine: decode attention over the block cache, RMS norm and gates.
 *
 * Compiled once per machine by native.py with -march=native; the torch code they replace is the reference that
 * they are checked against when they are loaded. Plain C with GCC's vector types, so that one source serves every
 * instruction set. Everything is computed in float32, per sequence: what else is in the batch changes nothing.
 *
 * Layout of one layer of the cache, keys and values alike: [blocks, kv_heads, block_size, head_dim].
 * This file is included twice by itself, once per element type of the cache (float and bfloat16).
 */
#ifndef T
#include "vectors.h"

enum { MAX_GROUP = 16, MAX_HEAD = 512 };

/* exp for x <= 0, relative error below 2e-7 (Cephes' polynomial); written so that compilers vectorise it. */
static inline float exp_neg(float x) {
    x = x < -87.0f ? -87.0f : x;
    float n = __builtin_rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t scale = ((int32_t)n + 127) << 23;
    float two_n;
    memcpy(&two_n, &scale, sizeof two_n);
    return p * two_n;
}

/* Scores -> weights in place: exp(score - max); returns their sum. */
static float soften(float *scores, int count) {
    float top = scores[0], total = 0;
    for (int i = 1; i < count; i++) top = scores[i] > top ? scores[i] : top;
    for (int i = 0; i < count; i++) scores[i] = exp_neg(scores[i] - top);
    for (int i = 0; i < count; i++) total += scores[i];
    return total;
}

#define T float
#define NAME(x) x##_f32
#include "kernels.c"
#undef T
#undef NAME
#define T uint16_t
#define NAME(x) x##_bf16
#include "kernels.c"
#else

/* Attention of one sequence's new row for the `group` query heads that share a key/value head. */
static inline __attribute__((always_inline)) void NAME(attend_group)(
    T *out, const T *query, const T *keys, const T *values, const int64_t *blocks, int64_t block_stride, int first,
    int context, int block_size, int group, int head_dim, int64_t query_head, float scale, float *scores) {
    float q[MAX_GROUP][MAX_HEAD], weight[MAX_GROUP];
    int count = context - first, stride = (count + LANES - 1) / LANES * LANES;
    for (int g = 0; g < group; g++)
        for (int d = 0; d < head_dim; d++) q[g][d] = NAME(get)(query + g * query_head + d) * scale;
    for (int block = first / block_size; block * block_size < context; block++) {
        int begin = block * block_size, end = begin + block_size < context ? begin + block_size : context;
        const T *place = keys + blocks[block] * block_stride;
        for (int p = begin > first ? begin : first; p < end; p++) {
            const T *key = place + (int64_t)(p - begin) * head_dim;
            f16v dot[MAX_GROUP];
            for (int g = 0; g < group; g++) dot[g] = (f16v){0};
            for (int d = 0; d < head_dim; d += LANES) {
                f16v k = NAME(load)(key + d);
                for (int g = 0; g < group; g++) dot[g] += k * load_f32(q[g] + d);
            }
            for (int g = 0; g < group; g++) scores[(int64_t)g * stride + p - first] = sum(dot[g]);
        }
    }
    for (int g = 0; g < group; g++) weight[g] = 1.0f / soften(scores + (int64_t)g * stride, count);
    for (int d = 0; d < head_dim; d += LANES) {
        f16v mixed[MAX_GROUP];
        for (int g = 0; g < group; g++) mixed[g] = (f16v){0};
        for (int block = first / block_size; block * block_size < context; block++) {
            int begin = block * block_size, end = begin + block_size < context ? begin + block_size : context;
            const T *place = values + blocks[block] * block_stride + d;
            for (int p = begin > first ? begin : first; p < end; p++) {
                f16v v = NAME(load)(place + (int64_t)(p - begin) * head_dim);
                for (int g = 0; g < group; g++) mixed[g] += v * scores[(int64_t)g * stride + p - first];
            }
        }
        for (int g = 0; g < group; g++)
            for (int i = 0; i < LANES; i++) NAME(put)(out + g * head_dim + d + i, mixed[g][i] * weight[g]);
    }
}

/* The same with the group's size known to the compiler, so that its sums stay in registers. */
static void NAME(attend_one)(
    T *out, const T *query, const T *keys, const T *values, const int64_t *blocks, int64_t block_stride, int first,
    int context, int block_size, int group, int head_dim, int64_t query_head, float scale, float *scores) {
#define CASE(n)                                                                                                       \
    case n:                                                                                                           \
        NAME(attend_group)(out, query, keys, values, blocks, block_stride, first, context, block_size, n, head_dim, \
                           query_head, scale, scores);                                                                \
        break;
    switch (group) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
        default:
            NAME(attend_group)(out, query, keys, values, blocks, block_stride, first, context, block_size, group,
                               head_dim, query_head, scale, scores);
    }
#undef CASE
}

/* Decode attention: one new row per sequence, B sequences, `kv_heads` key/value heads of `group` query heads each.
 * out: [rows, heads, head_dim] contiguous; query: element strides per row and head; rows, contexts: [B];
 * tables: [B, table_width]. A window of 0 means all. head_dim is a multiple of 16 and at most MAX_HEAD. */
int NAME(decode_attention)(
    T *out, const T *query, int64_t query_row, int64_t query_head, const T *keys, const T *values,
    const int64_t *rows, const int64_t *tables, const int64_t *contexts, int64_t count, int64_t table_width,
    int64_t kv_heads, int64_t group, int64_t head_dim, int64_t block_size, int64_t window, float scale) {
    int64_t longest = 0, head_stride = block_size * head_dim, block_stride = kv_heads * head_stride;
    int failed = 0;
    for (int64_t b = 0; b < count; b++) longest = contexts[b] > longest ? contexts[b] : longest;
#pragma omp parallel
    {
        /* Aligned, so that vectorised sums run in the same order for the same numbers whatever the address. */
        float *scores = aligned_alloc(64, (size_t)(group * ((longest + LANES - 1) / LANES * LANES)) * sizeof *scores);
        if (!scores) failed = 1;
#pragma omp for schedule(dynamic, 1) collapse(2)
        for (int64_t b = 0; b < count; b++)
            for (int64_t k = 0; k < kv_heads; k++) {
                if (!scores) continue;
                int64_t first = window && contexts[b] > window ? contexts[b] - window : 0;
                NAME(attend_one)(out + (rows[b] * kv_heads + k) * group * head_dim,
                                 query + rows[b] * query_row + k * group * query_head, keys + k * head_stride,
                                 values + k * head_stride, tables + b * table_width, block_stride, (int)first,
                                 (int)contexts[b], (int)block_size, (int)group, (int)head_dim, query_head, scale,
                                 scores);
            }
        free(scores);
    }
    return failed;
}

/* Copies each row's key and value into its place: key and value have element strides per row and head. */
void NAME(store)(T *keys, T *values, const T *key, const T *value, int64_t row, int64_t key_head, int64_t value_row,
                 int64_t value_head, const int64_t *blocks, const int64_t *offsets, int64_t count, int64_t kv_heads,
                 int64_t head_dim, int64_t block_size) {
    for (int64_t t = 0; t < count; t++)
        for (int64_t k = 0; k < kv_heads; k++) {
            int64_t place = ((blocks[t] * kv_heads + k) * block_size + offsets[t]) * head_dim;
            memcpy(keys + place, key + t * row + k * key_head, (size_t)head_dim * sizeof(T));
            memcpy(values + place, value + t * value_row + k * value_head, (size_t)head_dim * sizeof(T));
        }
}

/* out = silu(gate) * up, where each row of x holds `size` gates and then `size` ups. */
void NAME(silu_mul)(T *out, const T *x, int64_t rows, int64_t size) {
#pragma omp parallel for schedule(static) if (rows * size > 16384)
    for (int64_t r = 0; r < rows; r++) {
        const T *gate = x + r * 2 * size, *up = gate + size;
        for (int64_t i = 0; i < size; i++) {
            float g = NAME(get)(gate + i), decay = exp_neg(-__builtin_fabsf(g));
            float silu = g * (g < 0 ? decay : 1.0f) / (1.0f + decay);
            T rounded;
            NAME(put)(&rounded, silu);
            NAME(put)(out + r * size + i, NAME(get)(&rounded) * NAME(get)(up + i));
        }
    }
}

/* out = weight * round(x / sqrt(mean(x^2) + eps)), rounding to T as Llama's norm does; rows of `size` numbers. */
void NAME(rms_norm)(T *out, const T *x, const T *weight, int64_t rows, int64_t size, float epsilon) {
#pragma omp parallel for schedule(static) if (rows * size > 65536)
    for (int64_t r = 0; r < rows; r++) {
        const T *in = x + r * size;
        float squares = 0;
        for (int64_t i = 0; i < size; i++) squares += NAME(get)(in + i) * NAME(get)(in + i);
        float factor = 1.0f / __builtin_sqrtf(squares / (float)size + epsilon);
        for (int64_t i = 0; i < size; i++) {
            T rounded;
            NAME(put)(&rounded, NAME(get)(in + i) * factor);
            NAME(put)(out + r * size + i, NAME(get)(&rounded) * NAME(get)(weight + i));
        }
    }
}
#endif
