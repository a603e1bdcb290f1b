/* CPU kernels of the engine: RMS norm and gates.
 *
 * Compiled once per machine by __init__.py with -march=native; the torch code they replace is the reference that
 * they are checked against when they are loaded. Plain C with GCC's vector types, so that one source serves every
 * instruction set. Everything is computed in float32, row by row: what else is in the batch changes nothing.
 *
 * This file is included twice by itself, once per element type of the cache (float and bfloat16).
 */
#ifndef T
#include "vectors.h"

#define T float
#define NAME(x) x##_f32
#include "kernels.c"
#undef T
#undef NAME
#define T uint16_t
#define NAME(x) x##_bf16
#include "kernels.c"
#else

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
