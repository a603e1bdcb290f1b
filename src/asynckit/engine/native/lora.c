/* CPU kernel for LoRA: rows of one pass get the deltas of their own adapters.
 *
 * Compiled without leave to reorder sums: a row must get the same bits alone and among others, and the functions below
 * are compiled for one row and for several. This file is included twice by itself, once per element type.
 */
#ifndef T
#include "vectors.h"

enum { MAX_RANK = 512, LORA_ROWS = 4 };

#define T float
#define NAME(x) x##_f32
#include "lora.c"
#undef T
#undef NAME
#define T uint16_t
#define NAME(x) x##_bf16
#include "lora.c"
#else

/* hidden[t][r] = scale * down[r] . x[t] for `n` ranks and `rows` rows; down: [n, size]. However many are taken at
 * once, each sum adds the same numbers in the same order. */
static inline __attribute__((always_inline)) void NAME(lora_down)(
    float (*hidden)[MAX_RANK], const T *const *x, const T *down, int64_t size, float scale, int n, int rows) {
    f16v dot[LORA_ROWS][8];
    int64_t i = 0;
    for (int t = 0; t < rows; t++)
        for (int r = 0; r < n; r++) dot[t][r] = (f16v){0};
    for (; i + LANES <= size; i += LANES)
        for (int r = 0; r < n; r++) {
            f16v weight = NAME(load)(down + r * size + i);
            for (int t = 0; t < rows; t++) dot[t][r] += NAME(load)(x[t] + i) * weight;
        }
    for (int t = 0; t < rows; t++)
        for (int r = 0; r < n; r++) {
            float rest = 0;
            for (int64_t k = i; k < size; k++) rest += NAME(get)(x[t] + k) * NAME(get)(down + r * size + k);
            hidden[t][r] = (sum(dot[t][r]) + rest) * scale;
        }
}

/* delta[t] += hidden[t] . up for `n` ranks and `rows` rows; up: [n, width], delta: [rows, width]. */
static inline __attribute__((always_inline)) void NAME(lora_up)(
    float *restrict delta, float (*hidden)[MAX_RANK], const T *restrict up, int64_t width, int n, int rows) {
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) {
        f16v total[LORA_ROWS];
        for (int t = 0; t < rows; t++) total[t] = load_f32(delta + t * width + i);
        for (int r = 0; r < n; r++) {
            f16v weight = NAME(load)(up + r * width + i);
            for (int t = 0; t < rows; t++) total[t] += hidden[t][r] * weight;
        }
        for (int t = 0; t < rows; t++) *(f16v *)(delta + t * width + i) = total[t];
    }
    for (; i < width; i++)
        for (int t = 0; t < rows; t++)
            for (int r = 0; r < n; r++) delta[t * width + i] += hidden[t][r] * NAME(get)(up + r * width + i);
}

/* out[t] += scale * (x[t] . down) . up for `rows` rows of one adapter; delta: scratch of [rows, width]. */
static inline __attribute__((always_inline)) void NAME(lora_rows)(
    T *const *out, const T *const *x, const T *down, const T *up, int64_t rank, float scale, int64_t size,
    int64_t width, float *delta, int rows) {
    float hidden[LORA_ROWS][MAX_RANK];
    const int most = rows > 1 ? 4 : 8; /* what the registers hold */
    int64_t r = 0;
#define HIDDEN (float (*)[MAX_RANK])(hidden[0] + r)
    for (; r + most <= rank; r += most) NAME(lora_down)(HIDDEN, x, down + r * size, size, scale, most, rows);
    for (; r < rank; r++) NAME(lora_down)(HIDDEN, x, down + r * size, size, scale, 1, rows);
    memset(delta, 0, (size_t)(rows * width) * sizeof *delta);
    for (r = 0; r + 8 <= rank; r += 8) NAME(lora_up)(delta, HIDDEN, up + r * width, width, 8, rows);
    for (; r < rank; r++) NAME(lora_up)(delta, HIDDEN, up + r * width, width, 1, rows);
#undef HIDDEN
    for (int t = 0; t < rows; t++) {
        T *restrict to = out[t];
        const float *restrict more = delta + t * width;
        for (int64_t i = 0; i < width; i++) NAME(put)(to + i, NAME(get)(to + i) + more[i]);
    }
}

/* Adds to the listed rows of out what their adapters make of the same rows of x. One product may serve several
 * fused layers, its parts: part p is columns[p] to columns[p + 1] of out. The tables downs ([rank, size]), ups
 * ([rank, width of the part]), ranks and scales are indexed [slot, part]; rank 0 leaves the part as it is.
 * Neighbours in the list that share an adapter are taken together, so that its weights are read once. */
int NAME(lora_add)(T *out, const T *x, const int64_t *rows, const int64_t *slots, int64_t count, int64_t size,
                   int64_t parts, const int64_t *columns, const T *const *downs, const T *const *ups,
                   const int64_t *ranks, const float *scales) {
    int failed = 0;
#pragma omp parallel if (count > 1)
    {
        float *delta = malloc((size_t)columns[parts] * LORA_ROWS * sizeof *delta);
        if (!delta) failed = 1;
#pragma omp for schedule(dynamic, 1)
        for (int64_t begin = 0; begin < count; begin += LORA_ROWS) {
            int64_t left = count - begin < LORA_ROWS ? count - begin : LORA_ROWS, step;
            int together = left == LORA_ROWS && slots[begin] == slots[begin + LORA_ROWS - 1]; /* they are sorted */
            for (int64_t c = begin; delta && c < begin + left; c += step) {
                step = together ? LORA_ROWS : 1;
                for (int64_t p = 0; p < parts; p++) {
                    T *to[LORA_ROWS];
                    const T *from[LORA_ROWS];
                    int64_t entry = slots[c] * parts + p, width = columns[p + 1] - columns[p];
                    if (!ranks[entry]) continue;
                    for (int64_t t = 0; t < step; t++) {
                        to[t] = out + rows[c + t] * columns[parts] + columns[p];
                        from[t] = x + rows[c + t] * size;
                    }
                    if (together)
                        NAME(lora_rows)(to, from, downs[entry], ups[entry], ranks[entry], scales[entry], size, width,
                                        delta, LORA_ROWS);
                    else
                        NAME(lora_rows)(to, from, downs[entry], ups[entry], ranks[entry], scales[entry], size, width,
                                        delta, 1);
                }
            }
        }
        free(delta);
    }
    return failed;
}
#endif
