// Golden hashes of block bytes over many rows, in plain C float arithmetic; independent of the code under test.
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
  const int steps = (int[]){254, 16, 32, 64}[seed % 4]; // twice Q8_0's 127, Q4_0's 8, Q5_0's 16, Q6_K's 32
  for (int i = 0; i < 512; i += 32) {
    const double extreme = 1 + (next() >> 9) / 8388608.0;
    for (int j = 0; j < 32; j++) {
      const int n = j == 0 ? steps : (int)((next() >> 8) % (2 * steps + 1)) - steps;
      x[i + j] = (float)(extreme * n / steps);
    }
  }
}

// The same for types with a minimum: odd multiples of half a step of a random range that begins anywhere.
static void offsets(float *x, uint32_t seed) {
  lcg = seed;
  const int steps = seed % 2 ? 30 : 62; // twice Q4_1's 15, Q5_1's 31
  for (int i = 0; i < 512; i += 32) {
    const double range = 1 + (next() >> 9) / 8388608.0, low = (next() >> 9) / 8388608.0 - 1;
    for (int j = 0; j < 32; j++) {
      const int n = j < 2 ? j * steps : (int)((next() >> 8) % (steps + 1));
      x[i + j] = (float)(low + range * n / steps);
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

static void range(const float *x, int levels, float *d, float *id, float *min) {
  float max = *min = x[0];
  for (int j = 1; j < 32; j++) {
    if (x[j] < *min) *min = x[j];
    if (x[j] > max) max = x[j];
  }
  *d = (max - *min) / levels;
  *id = *d ? 1.0f / *d : 0.0f;
}

static void q4_1(const float *x) {
  float d, id, min;
  range(x, 15, &d, &id, &min);
  const _Float16 h[2] = {(_Float16)d, (_Float16)min};
  uint8_t qs[16];
  for (int j = 0; j < 16; j++) {
    const float a = (x[j] - min) * id + 0.5f, b = (x[j + 16] - min) * id + 0.5f;
    const int qa = (int)a < 15 ? (int)a : 15, qb = (int)b < 15 ? (int)b : 15;
    qs[j] = (uint8_t)(qa | qb << 4);
  }
  put(h, 4);
  put(qs, 16);
}

// 32 codes of five bits
static void five(const int *q) {
  uint32_t high = 0;
  uint8_t qs[16];
  for (int j = 0; j < 32; j++) high |= (uint32_t)(q[j] >> 4) << j;
  for (int j = 0; j < 16; j++) qs[j] = (uint8_t)((q[j] & 15) | (q[j + 16] & 15) << 4);
  put(&high, 4); // a little-endian machine
  put(qs, 16);
}

static void q5_0(const float *x) {
  float amax = 0, max = 0;
  for (int j = 0; j < 32; j++)
    if (amax < fabsf(x[j])) amax = fabsf(x[j]), max = x[j];
  const float d = max / -16, id = d ? 1.0f / d : 0.0f;
  const _Float16 h = (_Float16)d;
  int q[32];
  for (int j = 0; j < 32; j++) {
    const float a = x[j] * id + 16.5f;
    q[j] = (int)a < 31 ? (int)a : 31;
  }
  put(&h, 2);
  five(q);
}

static void q5_1(const float *x) {
  float d, id, min;
  range(x, 31, &d, &id, &min);
  const _Float16 h[2] = {(_Float16)d, (_Float16)min};
  int q[32];
  for (int j = 0; j < 32; j++) {
    const float a = (x[j] - min) * id + 0.5f;
    q[j] = (int)a < 31 ? (int)a : 31;
  }
  put(h, 4);
  five(q);
}

// half to even: the default rounding direction
static int nearest(float x) { return (int)nearbyintf(x); }
static int clamp(int l) { return l < -32 ? -32 : l > 31 ? 31 : l; }

static float fit(const float *x, float inverse, float *xl, float *ll) {
  *xl = *ll = 0;
  for (int i = 0; i < 16; i++) {
    const int l = clamp(nearest(inverse * x[i]));
    const float w = x[i] * x[i];
    *xl += w * x[i] * l;
    *ll += w * l * l;
  }
  return *ll ? *xl / *ll : 0.0f;
}

static float search(const float *x, int *codes) {
  float amax = 0, max = 0, xl, ll;
  for (int i = 0; i < 16; i++)
    if (fabsf(x[i]) > amax) amax = fabsf(x[i]), max = x[i];
  for (int i = 0; i < 16; i++) codes[i] = 0;
  if (amax < 1e-15f) return 0;
  float inverse = -32.0f / max, chosen = inverse;
  float scale = fit(x, inverse, &xl, &ll), best = scale * xl;
  for (int step = -9; step <= 9; step++) {
    if (step == 0) continue;
    inverse = -(32 + 0.1f * step) / max;
    const float s = fit(x, inverse, &xl, &ll);
    if (ll > 0 && xl * xl > best * ll) scale = s, best = s * xl, chosen = inverse;
  }
  for (int i = 0; i < 16; i++) codes[i] = clamp(nearest(chosen * x[i])) + 32;
  return scale;
}

static void q6_k(const float *x) {
  int codes[256];
  float scales[16], amax = 0, max = 0;
  for (int b = 0; b < 16; b++) {
    scales[b] = search(x + 16 * b, codes + 16 * b);
    if (fabsf(scales[b]) > amax) amax = fabsf(scales[b]), max = scales[b];
  }
  uint8_t low[128] = {0}, high[64] = {0};
  int8_t sc[16] = {0};
  _Float16 d = 0;
  if (amax >= 1e-15f) {
    const float inverse = -128.0f / max;
    d = (_Float16)(1 / inverse);
    for (int b = 0; b < 16; b++) {
      const int s = nearest(inverse * scales[b]);
      sc[b] = (int8_t)(s < 127 ? s : 127);
      const float step = (float)d * sc[b];
      if (step != 0)
        for (int i = 16 * b; i < 16 * b + 16; i++) codes[i] = clamp(nearest(x[i] / step)) + 32;
    }
    for (int e = 0; e < 256; e++) { // by element: half h, quarter q, place l
      const int h = e / 128, q = e % 128 / 32, l = e % 32;
      low[64 * h + 32 * (q % 2) + l] |= (uint8_t)((codes[e] & 15) << 4 * (q / 2));
      high[32 * h + l] |= (uint8_t)((codes[e] >> 4) << 2 * q);
    }
  }
  put(low, 128);
  put(high, 64);
  put(sc, 16);
  put(&d, 2);
}

static const struct {
  const char *name;
  int size;
  void (*encode)(const float *x);
} TYPES[] = {{"Q4_0", 32, q4_0}, {"Q4_1", 32, q4_1}, {"Q5_0", 32, q5_0}, {"Q5_1", 32, q5_1}, {"Q8_0", 32, q8_0}, {"Q6_K", 256, q6_k}};

int main(void) {
  // powers of two only scale d; the others move every product. 2^-14 makes d a subnormal half, 2^-34 makes it zero.
  const double factors[] = {1, 0.7, 3.1, 1024, 0x1p-14, 0x1p-34};
  printf("{\n  \"rows\": 500,\n  \"hashes\": [\n");
  for (int f = 0; f < 8; f++) {
    printf("    {\n      \"input\": ");
    if (f < 6) printf("%.17g", factors[f]);
    else printf(f == 6 ? "\"edges\"" : "\"offsets\"");
    for (int t = 0; t < 6; t++) {
      hash = 2166136261u;
      for (uint32_t seed = 1; seed <= 500; seed++) {
        float x[512];
        if (f < 6) row(x, seed, (float)factors[f]);
        else (f == 6 ? edges : offsets)(x, seed);
        for (int b = 0; b < 512; b += TYPES[t].size) TYPES[t].encode(x + b);
      }
      printf(",\n      \"%s\": \"%08x\"", TYPES[t].name, hash);
    }
    printf("\n    }%s\n", f < 7 ? "," : "");
  }
  printf("  ]\n}\n");
}
