// The sum of overlapping patches: the last step of a convolution's gradient with respect to images of few channels.
#include "types.h"

namespace {

// patches (images, rows, cols, size, size, channels) of an image padded by `padding` -> images (images, height, width, channels).
template <class T>
void fold(const T *patches, T *out, int64_t images, int64_t height, int64_t width, int64_t channels, int64_t size, int64_t padding, int threads) {
  const int64_t rows = height + 2 * padding - size + 1, cols = width + 2 * padding - size + 1, C = channels, patch = size * size * C;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t n = 0; n < images; n++)
    for (int64_t i = 0; i < height; i++)
      for (int64_t j = 0; j < width; j++) {
        float sum[4] = {0, 0, 0, 0};
        for (int64_t a = 0; a < size; a++) {
          const int64_t row = i + padding - a;
          if (row < 0 || row >= rows) continue;
          for (int64_t b = 0; b < size; b++) {
            const int64_t col = j + padding - b;
            if (col < 0 || col >= cols) continue;
            const T *from = patches + ((n * rows + row) * cols + col) * patch + (a * size + b) * C;
            for (int64_t c = 0; c < C; c++) sum[c] += load(from, c);
          }
        }
        for (int64_t c = 0; c < C; c++) store(out, ((n * height + i) * width + j) * C + c, sum[c]);
      }
}

}  // namespace

#define CONDENSE_FOLD(T, NAME)                                                                                                        \
  extern "C" void NAME##_fold(const void *patches, void *out, int64_t images, int64_t height, int64_t width, int64_t channels,        \
                              int64_t size, int64_t padding, int threads) {                                                           \
    fold((const T *)patches, (T *)out, images, height, width, channels, size, padding, threads);                                     \
  }

CONDENSE_FOLD(float, float32)
CONDENSE_FOLD(bf16, bfloat16)
