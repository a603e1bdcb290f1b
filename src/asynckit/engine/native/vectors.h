/* Vectors of 16 floats, loaded from and rounded to the element types of the engine: float and bfloat16. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

typedef float f4v __attribute__((vector_size(16)));
typedef float f8v __attribute__((vector_size(32)));
typedef float f16v __attribute__((vector_size(64), aligned(4)));
typedef uint32_t u16v __attribute__((vector_size(64)));
typedef uint16_t h16v __attribute__((vector_size(32), aligned(2)));

enum { LANES = 16 };

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

/* Adds halves, so that the order is the same wherever this is inlined. */
static inline float sum(f16v v) {
    f8v half[2];
    f4v quarter[2];
    memcpy(half, &v, sizeof half);
    half[0] += half[1];
    memcpy(quarter, half, sizeof quarter);
    quarter[0] += quarter[1];
    return (quarter[0][0] + quarter[0][2]) + (quarter[0][1] + quarter[0][3]);
}

/* Rounds 16 floats to the element type. */
static inline void round_f32(float *p, f16v v) { *(f16v *)p = v; }
static inline void round_bf16(uint16_t *p, f16v v) {
#ifdef __AVX512BF16__
    __m256bh rounded = _mm512_cvtneps_pbh((__m512)v);
    memcpy(p, &rounded, sizeof rounded);
#else
    for (int i = 0; i < LANES; i++) put_bf16(p + i, v[i]);
#endif
}

/* exp for x <= 0, relative error below 2e-7 (Cephes' polynomial), zero below -87; written so that compilers vectorise
 * it. NaN stays NaN. */
static inline float exp_neg(float x) {
    float inside = x > -87.0f ? x : -87.0f; /* also where x is NaN, which has no integer part */
    float n = __builtin_rintf(inside * 1.44269504f);
    float r = inside - n * 0.693359375f + n * 2.12194440e-4f;
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
    return x != x ? x : x < -87.0f ? 0.0f : p * two_n;
}
