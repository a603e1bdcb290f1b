/* CPU kernels of the engine: decode attention over the block cache, RMS norm, gates and LoRA.
 *
 * Compiled once per machine by native.py with -march=native; the torch code they replace is the reference that
 * they are checked against when they are loaded. Plain C with GCC's vector types, so that one source serves every
 * instruction set. Everything is computed in float32, per sequence: what else is in the batch changes nothing.
 *
 * Layout of one layer of the cache, keys and values alike: [blocks, kv_heads, block_size, head_dim].
 * This file is included twice by itself, once per element type of the cache (float and bfloat16).
 */
#ifndef T
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float f16v __attribute__((vector_size(64), aligned(4)));
typedef uint32_t u16v __attribute__((vector_size(64)));
typedef uint16_t h16v __attribute__((vector_size(32), aligned(2)));

enum { LANES = 16, MAX_GROUP = 16, MAX_HEAD = 512, MAX_RANK = 512 };

static inline f16v load_f32(const float *p) { return *(const f16v *)p; }
static inline f16v load_bf16(const uint16_t *p) {
    u16v wide = __builtin_convertvector(*(const h16v *)p, u16v) << 16;
    f16v out;
    memcpy(&out, &wide, sizeof out);
    return out;
}
static inline float get_f32(const float *p) { return *p; }
static inline float get_bf16(const uint16_t *p) {
    uint32_t bits = (uint32_t)*p << 16;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}
static inline void put_f32(float *p, float x) { *p = x; }
static inline void put_bf16(uint16_t *p, float x) { /* round to nearest even, NaN stays NaN */
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    *p = x != x ? 0x7FC0 : (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
static inline float sum(f16v v) {
    float total = 0;
    for (int i = 0; i < LANES; i++) total += v[i];
    return total;
}

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
    int count = context - first;
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
            for (int g = 0; g < group; g++) scores[(int64_t)g * count + p - first] = sum(dot[g]);
        }
    }
    for (int g = 0; g < group; g++) weight[g] = 1.0f / soften(scores + (int64_t)g * count, count);
    for (int d = 0; d < head_dim; d += LANES) {
        f16v mixed[MAX_GROUP];
        for (int g = 0; g < group; g++) mixed[g] = (f16v){0};
        for (int block = first / block_size; block * block_size < context; block++) {
            int begin = block * block_size, end = begin + block_size < context ? begin + block_size : context;
            const T *place = values + blocks[block] * block_stride + d;
            for (int p = begin > first ? begin : first; p < end; p++) {
                f16v v = NAME(load)(place + (int64_t)(p - begin) * head_dim);
                for (int g = 0; g < group; g++) mixed[g] += v * scores[(int64_t)g * count + p - first];
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
        float *scores = malloc((size_t)(group * longest) * sizeof *scores);
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

/* hidden[r] = scale * down[r] . x for `n` ranks; down: [n, size]. */
static inline __attribute__((always_inline)) void NAME(lora_down)(
    float *hidden, const T *x, const T *down, int64_t size, float scale, int n) {
    f16v dot[8];
    int64_t i = 0;
    for (int r = 0; r < n; r++) dot[r] = (f16v){0};
    for (; i + LANES <= size; i += LANES) {
        f16v v = NAME(load)(x + i);
        for (int r = 0; r < n; r++) dot[r] += v * NAME(load)(down + r * size + i);
    }
    for (int r = 0; r < n; r++) {
        float rest = 0;
        for (int64_t k = i; k < size; k++) rest += NAME(get)(x + k) * NAME(get)(down + r * size + k);
        hidden[r] = (sum(dot[r]) + rest) * scale;
    }
}

/* delta += hidden . up for `n` ranks; up: [n, width]. */
static inline __attribute__((always_inline)) void NAME(lora_up)(
    float *restrict delta, const float *restrict hidden, const T *restrict up, int64_t width, int n) {
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) {
        f16v total = load_f32(delta + i);
        for (int r = 0; r < n; r++) total += hidden[r] * NAME(load)(up + r * width + i);
        *(f16v *)(delta + i) = total;
    }
    for (; i < width; i++)
        for (int r = 0; r < n; r++) delta[i] += hidden[r] * NAME(get)(up + r * width + i);
}

/* out += scale * (x . down) . up for one row; delta: scratch of `width`. Ranks are taken eight at a time. */
static void NAME(lora_row)(T *out, const T *x, const T *down, const T *up, int64_t rank, float scale, int64_t size,
                           int64_t width, float *delta) {
    float hidden[MAX_RANK];
    int64_t r = 0;
    for (; r + 8 <= rank; r += 8) NAME(lora_down)(hidden + r, x, down + r * size, size, scale, 8);
    for (; r + 4 <= rank; r += 4) NAME(lora_down)(hidden + r, x, down + r * size, size, scale, 4);
    for (; r < rank; r++) NAME(lora_down)(hidden + r, x, down + r * size, size, scale, 1);
    memset(delta, 0, (size_t)width * sizeof *delta);
    for (r = 0; r + 8 <= rank; r += 8) NAME(lora_up)(delta, hidden + r, up + r * width, width, 8);
    for (; r + 4 <= rank; r += 4) NAME(lora_up)(delta, hidden + r, up + r * width, width, 4);
    for (; r < rank; r++) NAME(lora_up)(delta, hidden + r, up + r * width, width, 1);
    for (int64_t i = 0; i < width; i++) NAME(put)(out + i, NAME(get)(out + i) + delta[i]);
}

/* Adds to the listed rows of out what their adapters make of the same rows of x. One product may serve several
 * fused layers, its parts: part p is columns[p] to columns[p + 1] of out. The tables downs ([rank, size]), ups
 * ([rank, width of the part]), ranks and scales are indexed [slot, part]; rank 0 leaves the part as it is. */
int NAME(lora_add)(T *out, const T *x, const int64_t *rows, const int64_t *slots, int64_t count, int64_t size,
                   int64_t parts, const int64_t *columns, const T *const *downs, const T *const *ups,
                   const int64_t *ranks, const float *scales) {
    int failed = 0;
#pragma omp parallel if (count > 1)
    {
        float *delta = malloc((size_t)columns[parts] * sizeof *delta);
        if (!delta) failed = 1;
#pragma omp for schedule(dynamic, 4)
        for (int64_t c = 0; c < count; c++)
            for (int64_t p = 0; p < parts; p++) {
                int64_t entry = slots[c] * parts + p;
                if (delta && ranks[entry])
                    NAME(lora_row)(out + rows[c] * columns[parts] + columns[p], x + rows[c] * size, downs[entry],
                                   ups[entry], ranks[entry], scales[entry], size, columns[p + 1] - columns[p], delta);
            }
        free(delta);
    }
    return failed;
}
#endif
