/* What the sampler needs to know about every logit, in two passes over each row.
 *
 * This file is included twice by itself, once per element type of the logits (float and bfloat16).
 */
#ifndef T
#include "vectors.h"

enum { CHUNK = 256 }; /* columns summed at a time, in the same order for every row */

#define T float
#define NAME(x) x##_f32
#include "sampling.c"
#undef T
#undef NAME
#define T uint16_t
#define NAME(x) x##_bf16
#include "sampling.c"
#else

/* The softmax of each row of logits [rows, size] over its temperature, taken apart: the largest logit and its first
 * column, and the cumulative sums of exp(logit - largest) over chunks, [rows, chunks]. NaN and +inf make sums NaN. */
void NAME(softmax)(float *peaks, int64_t *best, double *upper, const T *logits, const float *temperatures, int64_t rows,
                   int64_t row_stride, int64_t size) {
    int64_t chunks = (size + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static) if (rows > 1)
    for (int64_t r = 0; r < rows; r++) {
        const T *row = logits + r * row_stride;
        float temperature = temperatures[r], tops[LANES], peak = -INFINITY;
        double total = 0;
        for (int l = 0; l < LANES; l++) tops[l] = -INFINITY;
        for (int64_t i = 0; i + LANES <= size; i += LANES)
            for (int l = 0; l < LANES; l++) {
                float x = NAME(get)(row + i + l);
                tops[l] = x > tops[l] ? x : tops[l];
            }
        for (int l = 0; l < LANES; l++) peak = tops[l] > peak ? tops[l] : peak;
        for (int64_t i = size / LANES * LANES; i < size; i++) peak = NAME(get)(row + i) > peak ? NAME(get)(row + i) : peak;
        int64_t column = 0;
        while (column < size - 1 && NAME(get)(row + column) != peak) column++;
        best[r] = column;
        peaks[r] = peak / temperature;
        for (int64_t c = 0; c < chunks; c++) {
            float sums[LANES] = {0};
            int64_t end = size < (c + 1) * CHUNK ? size : (c + 1) * CHUNK, i = c * CHUNK;
            for (; i + LANES <= end; i += LANES)
                for (int l = 0; l < LANES; l++) sums[l] += exp_neg(NAME(get)(row + i + l) / temperature - peaks[r]);
            for (; i < end; i++) sums[0] += exp_neg(NAME(get)(row + i) / temperature - peaks[r]);
            f16v lanes;
            memcpy(&lanes, sums, sizeof lanes);
            upper[r * chunks + c] = total += (double)sum(lanes);
        }
    }
}
#endif
