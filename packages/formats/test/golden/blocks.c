// Golden hashes of block bytes and of decoded blocks, by ggml itself. Compile and run:
//   gcc -std=c11 -O2 blocks.c -ldl -o blocks && ./blocks path/to/libggml-base.so > blocks.json
// A library for generic x86-64, such as the one of the npm package @node-llama-cpp/linux-x64, has no fused multiply-add in its encoders:
// its bytes are those of the C source compiled without contraction.
#include <ctype.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 200, COLS = 512, DECODED = 64 };

static uint32_t lcg;
static uint32_t next(void) { return lcg = 1664525u * lcg + 1013904223u; }

static void row(float *x, uint32_t seed, float factor) {
  lcg = seed;
  for (int i = 0; i < COLS; i++) {
    double s = 0;
    for (int k = 0; k < 3; k++) s += next() >> 12;
    x[i] = (float)((s - 1572864.0) / 1048576.0 / 16.0) * factor;
  }
}

// Blocks whose weights lie where a code ends: odd multiples of half a step of a random extreme. One float rounding more or less shows.
static void edges(float *x, uint32_t seed) {
  lcg = seed;
  const int steps = (int[]){254, 16, 32, 64}[seed % 4]; // twice Q8_0's 127, Q4_0's 8, Q5_0's 16, Q6_K's 32
  for (int i = 0; i < COLS; i += 32) {
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
  for (int i = 0; i < COLS; i += 32) {
    const double range = 1 + (next() >> 9) / 8388608.0, low = (next() >> 9) / 8388608.0 - 1;
    for (int j = 0; j < 32; j++) {
      const int n = j < 2 ? j * steps : (int)((next() >> 8) % (steps + 1));
      x[i + j] = (float)(low + range * n / steps);
    }
  }
}

// Importances from 0 to 1, most of them small, an eighth of them 0.
static void importances(float *w, uint32_t seed) {
  lcg = seed + 777;
  for (int i = 0; i < COLS; i++) {
    const uint32_t n = next();
    const double u = (n >> 8) / 16777216.0;
    w[i] = n % 8 == 0 ? 0 : (float)(u * u);
  }
}

static uint32_t hash;
static void put(const void *p, size_t n) {
  for (size_t i = 0; i < n; i++) hash = (hash ^ ((const uint8_t *)p)[i]) * 16777619u;
}

static const struct {
  const char *name;
  int size, bytes, halves[2]; // where fp16 numbers begin, -1: none
} TYPES[] = {
    {"Q4_0", 32, 18, {0, -1}},     {"Q4_1", 32, 20, {0, 2}},       {"Q5_0", 32, 22, {0, -1}},     {"Q5_1", 32, 24, {0, 2}},
    {"Q8_0", 32, 34, {0, -1}},     {"Q2_K", 256, 84, {80, 82}},    {"Q3_K", 256, 110, {108, -1}}, {"Q4_K", 256, 144, {0, 2}},
    {"Q5_K", 256, 176, {0, 2}},    {"Q6_K", 256, 210, {208, -1}},  {"IQ4_NL", 32, 18, {0, -1}},   {"IQ4_XS", 256, 136, {0, -1}},
    {"TQ1_0", 256, 54, {52, -1}},  {"TQ2_0", 256, 66, {64, -1}},   {"MXFP4", 32, 17, {-1, -1}},   {"NVFP4", 64, 36, {-1, -1}},
    {"IQ2_XXS", 256, 66, {0, -1}}, {"IQ2_XS", 256, 74, {0, -1}},   {"IQ2_S", 256, 82, {0, -1}},   {"IQ3_XXS", 256, 98, {0, -1}},
    {"IQ3_S", 256, 110, {0, -1}},  {"IQ1_S", 256, 50, {0, -1}},    {"IQ1_M", 256, 56, {54, -1}}, // the end of a scattered number
};
enum { COUNT = sizeof TYPES / sizeof TYPES[0], ENCODED = 16 };

typedef size_t (*Quantize)(const float *, void *, int64_t rows, int64_t cols, const float *importance);
typedef void (*Dequantize)(const void *, float *, int64_t count);

static void *function(void *lib, const char *prefix, const char *type) {
  char name[64];
  size_t n = (size_t)snprintf(name, sizeof name, "%s", prefix);
  for (; *type; type++) name[n++] = (char)(*type == 'K' ? 'K' : tolower(*type)); // q2_K, iq4_nl
  name[n] = 0;
  void *f = dlsym(lib, name);
  if (!f) fprintf(stderr, "no %s\n", name), exit(1);
  return f;
}

int main(int argc, char **argv) {
  void *lib = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
  if (!lib) return fprintf(stderr, "%s\n", argc == 2 ? dlerror() : "usage: blocks libggml-base.so"), 1;
  static uint8_t out[1 << 16];
  static float y[DECODED * 256];
  // powers of two only scale d; the others move every product. 2^-14 makes d a subnormal half, 2^-34 makes it zero.
  const double factors[] = {1, 0.7, 3.1, 1024, 0x1p-14, 0x1p-34};
  printf("{\n  \"rows\": %d,\n  \"encode\": [\n", ROWS);
  for (int f = 0; f < 8; f++) {
    printf("    {\n      \"input\": ");
    if (f < 6) printf("%.17g", factors[f]);
    else printf(f == 6 ? "\"edges\"" : "\"offsets\"");
    for (int t = 0; t < ENCODED; t++) {
      const Quantize quantize = (Quantize)function(lib, "quantize_", TYPES[t].name);
      uint32_t hashes[2];
      for (int weighted = 0; weighted < 2; weighted++) {
        hash = 2166136261u;
        for (uint32_t seed = 1; seed <= ROWS; seed++) {
          float x[COLS], w[COLS];
          if (f < 6) row(x, seed, (float)factors[f]);
          else (f == 6 ? edges : offsets)(x, seed);
          importances(w, seed);
          put(out, quantize(x, out, 1, COLS, weighted ? w : NULL));
        }
        hashes[weighted] = hash;
      }
      printf(",\n      \"%s\": [\"%08x\", \"%08x\"]", TYPES[t].name, hashes[0], hashes[1]);
    }
    printf("\n    }%s\n", f < 7 ? "," : "");
  }
  printf("  ],\n  \"decode\": {\n");
  for (int t = 0; t < COUNT; t++) {
    lcg = 99; // any bytes, but fp16 numbers below 2
    for (int i = 0; i < DECODED * TYPES[t].bytes; i++) out[i] = (uint8_t)(next() >> 24);
    for (int b = 0; b < DECODED; b++)
      for (int k = 0; k < 2; k++)
        if (TYPES[t].halves[k] >= 0) out[b * TYPES[t].bytes + TYPES[t].halves[k] + 1] &= 0xbf;
    ((Dequantize)function(lib, "dequantize_row_", TYPES[t].name))(out, y, (int64_t)DECODED * TYPES[t].size);
    hash = 2166136261u;
    put(y, sizeof(float) * DECODED * (size_t)TYPES[t].size);
    printf("    \"%s\": \"%08x\"%s\n", TYPES[t].name, hash, t + 1 < COUNT ? "," : "");
  }
  printf("  }\n}\n");
}
