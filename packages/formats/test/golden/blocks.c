// Golden hashes of Q4_0 and Q8_0 bytes over many rows, in plain C float arithmetic; independent of the code under test.
// Follows the scale choosers and byte layouts that blocks.test.ts names. Compile and run:
//   gcc -std=c11 -O2 -ffp-contract=off blocks.c -lm -o blocks && ./blocks > blocks.json
// _Float16 (gcc 12 and later, x86-64) converts from float with round to nearest even.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint32_t lcg;
static uint32_t next(void) { return lcg = 1664525u * lcg + 1013904223u; }

static void row(float *x, uint32_t seed, float factor) {
  lcg = seed;
  for (int i = 0; i < 512; i++) {
    double s = 0;
    for (int k = 0; k < 3; k++) s += next() >> 12;
    x[i] = (float)((s - 1572864.0) / 1048576.0 / 16.0) * factor;
  }
}

// Blocks whose weights lie where a code ends: odd multiples of half a step of a random extreme. One float rounding more or less shows.
static void edges(float *x, uint32_t seed) {
  lcg = seed;
  const int steps = seed % 2 ? 16 : 254; // twice Q4_0's 8, twice Q8_0's 127
  for (int i = 0; i < 512; i += 32) {
    const double extreme = 1 + (next() >> 9) / 8388608.0;
    for (int j = 0; j < 32; j++) {
      const int n = j == 0 ? steps : (int)((next() >> 8) % (2 * steps + 1)) - steps;
      x[i + j] = (float)(extreme * n / steps);
    }
  }
}

static uint32_t hash;
static void put(const void *p, size_t n) {
  for (size_t i = 0; i < n; i++) hash = (hash ^ ((const uint8_t *)p)[i]) * 16777619u;
}

static void q4_0(const float *x) {
  float amax = 0, max = 0;
  for (int j = 0; j < 32; j++)
    if (amax < fabsf(x[j])) amax = fabsf(x[j]), max = x[j];
  const float d = max / -8, id = d ? 1.0f / d : 0.0f;
  const _Float16 h = (_Float16)d;
  uint8_t qs[16];
  for (int j = 0; j < 16; j++) {
    const float a = x[j] * id + 8.5f, b = x[j + 16] * id + 8.5f;
    const int qa = (int)a < 15 ? (int)a : 15, qb = (int)b < 15 ? (int)b : 15;
    qs[j] = (uint8_t)(qa | qb << 4);
  }
  put(&h, 2);
  put(qs, 16);
}

static void q8_0(const float *x) {
  float amax = 0;
  for (int j = 0; j < 32; j++) amax = fmaxf(amax, fabsf(x[j]));
  const float d = amax / 127, id = d ? 1.0f / d : 0.0f;
  const _Float16 h = (_Float16)d;
  int8_t qs[32];
  for (int j = 0; j < 32; j++) qs[j] = (int8_t)roundf(x[j] * id);
  put(&h, 2);
  put(qs, 32);
}

int main(void) {
  // powers of two only scale d; the others move every product. 2^-14 makes d a subnormal half, 2^-34 makes it zero.
  const double factors[] = {1, 0.7, 3.1, 1024, 0x1p-14, 0x1p-34};
  printf("{\n  \"rows\": 2000,\n  \"hashes\": [\n");
  for (int f = 0; f < 7; f++) {
    uint32_t hashes[2];
    for (int t = 0; t < 2; t++) {
      hash = 2166136261u;
      for (uint32_t seed = 1; seed <= 2000; seed++) {
        float x[512];
        if (f < 6) row(x, seed, (float)factors[f]);
        else edges(x, seed);
        for (int b = 0; b < 512; b += 32) (t ? q8_0 : q4_0)(x + b);
      }
      hashes[t] = hash;
    }
    printf("    { \"input\": ");
    if (f < 6) printf("%.17g", factors[f]);
    else printf("\"edges\"");
    printf(", \"Q4_0\": \"%08x\", \"Q8_0\": \"%08x\" }%s\n", hashes[0], hashes[1], f < 6 ? "," : "");
  }
  printf("  ]\n}\n");
}
