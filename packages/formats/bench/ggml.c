// Encode rates of ggml, one thread, in million weights per second; the other half of blocks.bench.mjs, which compiles and runs it.
//   ggml path/to/libggml-base.so weights.bin cols seconds type …
#include <ctype.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef size_t (*Quantize)(const float *, void *, int64_t rows, int64_t cols, const float *importance);

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv) {
  void *lib = argc > 5 ? dlopen(argv[1], RTLD_NOW) : NULL;
  FILE *f = argc > 5 ? fopen(argv[2], "rb") : NULL;
  if (!lib || !f) return fprintf(stderr, "usage: ggml libggml-base.so weights.bin cols seconds type ...\n"), 1;
  fseek(f, 0, SEEK_END);
  const long count = ftell(f) / 4, cols = atol(argv[3]);
  rewind(f);
  float *x = malloc((size_t)count * 4), *importance = malloc((size_t)cols * 4);
  void *out = malloc((size_t)count * 4);
  if (!x || !importance || !out || fread(x, 4, (size_t)count, f) != (size_t)count) return 1;
  for (long i = 0; i < cols; i++) importance[i] = (float)(1 + i % 16);
  for (int t = 5; t < argc; t++) {
    char name[64] = "quantize_";
    size_t n = strlen(name);
    for (const char *c = argv[t]; *c; c++) name[n++] = (char)(*c == 'K' ? 'K' : tolower(*c));
    name[n] = 0;
    const Quantize quantize = (Quantize)dlsym(lib, name);
    if (!quantize) return fprintf(stderr, "no %s\n", name), 1;
    for (int weighted = 0; weighted < 2; weighted++) {
      double best = 1e9;
      for (const double end = now() + atof(argv[4]); now() < end;) {
        const double start = now();
        quantize(x, out, count / cols, cols, weighted ? importance : NULL);
        const double took = now() - start;
        if (took < best) best = took;
      }
      printf("%s %d %.4f\n", argv[t], weighted, (double)count / best / 1e6);
    }
  }
}
