// Instance norm, affine map, ReLU and 2 x 2 average pooling of channels-last maps in one pass, and its gradient.
//
// One image is one task: its map stays in the cache from the statistics to the output. Sums run over the pixels in their
// order, a channel a lane, so that results depend neither on threads nor on what else is in the batch.
#include <vector>

#include "norm_relu_pool.h"

namespace {

// mean and rstd are (images, channels), out is (images, height / pool, width / pool, channels).
template <class T>
void forward(const T *maps, const float *weight, const float *bias, T *out, float *mean, float *rstd, Shape s, float eps, int threads) {
  const int64_t C = s.channels, from = s.height * s.width * C, to = (s.height / s.pool) * (s.width / s.pool) * C;
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> room(3 * C);
#pragma omp for schedule(static)
    for (int64_t n = 0; n < s.images; n++)
      norm_relu_pool(maps + n * from, weight, bias, out + n * to, mean + n * C, rstd + n * C, s, eps, room.data());
  }
}

// `sums` (images, 2, channels): the gradients of bias and weight from each image, which the caller adds up.
template <class T>
void backward(const T *given, const T *maps, const float *weight, const float *bias, const float *mean, const float *rstd, T *gradient,
              float *sums, Shape s, int threads) {
  const int64_t pixels = s.height * s.width, C = s.channels, rows = s.height / s.pool, cols = s.width / s.pool;
  const float share = 1.0f / float(s.pool * s.pool);
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> buffer(3 * C);
    float *slope = buffer.data(), *by_mean = slope + C, *by_value = by_mean + C;
    const std::vector<T> none(C, T{});
#pragma omp for schedule(static)
    for (int64_t n = 0; n < s.images; n++) {
      const T *x = maps + n * pixels * C, *g = given + n * rows * cols * C;
      const float *m = mean + n * C, *r = rstd + n * C;
      float *to_bias = sums + n * 2 * C, *to_weight = to_bias + C;
      for (int64_t c = 0; c < C; c++) {
        slope[c] = r[c] * weight[c];
        to_bias[c] = to_weight[c] = 0;
      }
      for (int64_t i = 0; i < rows * s.pool; i++)
        for (int64_t j = 0; j < cols * s.pool; j++) {
          const T *at = x + (i * s.width + j) * C, *from = g + ((i / s.pool) * cols + j / s.pool) * C;
#pragma omp simd
          for (int64_t c = 0; c < C; c++) {
            const float value = load(at, c) - m[c], part = value * slope[c] + bias[c] > 0 ? load(from, c) * share : 0.0f;
            to_bias[c] += part;
            to_weight[c] += part * value;
          }
        }
      for (int64_t c = 0; c < C; c++) {
        to_weight[c] *= r[c];
        by_value[c] = slope[c] * r[c] * to_weight[c] / float(pixels);
        by_mean[c] = slope[c] * to_bias[c] / float(pixels);
      }
      for (int64_t i = 0; i < s.height; i++)
        for (int64_t j = 0; j < s.width; j++) {
          const bool pooled = i < rows * s.pool && j < cols * s.pool;
          const T *at = x + (i * s.width + j) * C, *from = pooled ? g + ((i / s.pool) * cols + j / s.pool) * C : none.data();
          T *to = gradient + n * pixels * C + (i * s.width + j) * C;
#pragma omp simd
          for (int64_t c = 0; c < C; c++) {
            const float value = load(at, c) - m[c], part = value * slope[c] + bias[c] > 0 ? load(from, c) * share : 0.0f;
            store(to, c, part * slope[c] - by_mean[c] - by_value[c] * value);
          }
        }
    }
  }
}

}  // namespace

#define CONDENSE_ENTRIES(T, NAME)                                                                                                     \
  extern "C" void NAME##_forward(const void *maps, const float *weight, const float *bias, void *out, float *mean, float *rstd,       \
                                 int64_t n, int64_t h, int64_t w, int64_t c, int64_t pool, float eps, int threads) {                  \
    forward((const T *)maps, weight, bias, (T *)out, mean, rstd, Shape{n, h, w, c, pool}, eps, threads);                              \
  }                                                                                                                                   \
  extern "C" void NAME##_backward(const void *given, const void *maps, const float *weight, const float *bias, const float *mean,     \
                                  const float *rstd, void *gradient, float *sums, int64_t n, int64_t h, int64_t w, int64_t c,         \
                                  int64_t pool, int threads) {                                                                        \
    backward((const T *)given, (const T *)maps, weight, bias, mean, rstd, (T *)gradient, sums, Shape{n, h, w, c, pool}, threads);     \
  }

CONDENSE_ENTRIES(float, float32)
CONDENSE_ENTRIES(bf16, bfloat16)
