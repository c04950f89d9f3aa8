// Instance norm, affine map, ReLU where there is one, and 2 x 2 average pooling of channels-last maps in one pass, and its gradient.
//
// One image is one task: its map stays in the cache from the statistics to the output. Sums run over the pixels in their
// order, a channel a lane, so that results depend neither on threads nor on what else is in the batch.
#include <vector>

#include "norm_relu_pool.h"

namespace {

Shape shape_of(int64_t n, int64_t h, int64_t w, int64_t c, int64_t pool, int64_t relu) { return {n, h, w, c, pool, relu ? 0 : NO_FLOOR}; }

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
  const int64_t C = s.channels, from = s.height * s.width * C, to = (s.height / s.pool) * (s.width / s.pool) * C;
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> room(3 * C);
    const std::vector<T> none(C, T{});
#pragma omp for schedule(static)
    for (int64_t n = 0; n < s.images; n++)
      norm_relu_pool_gradient(given + n * to, maps + n * from, weight, bias, mean + n * C, rstd + n * C, gradient + n * from,
                              sums + n * 2 * C, s, room.data(), none.data());
  }
}

// The gradient of the gradient; see `norm_relu_pool_second`. of_weight (images, channels).
void second(const float *along, const float *along_weight, const float *along_bias, const float *given, const float *maps, const float *weight,
            const float *bias, const float *mean, const float *rstd, float *of_given, float *of_maps, float *of_weight, Shape s, int threads) {
  const int64_t C = s.channels, from = s.height * s.width * C, to = (s.height / s.pool) * (s.width / s.pool) * C;
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> room(10 * C);
#pragma omp for schedule(static)
    for (int64_t n = 0; n < s.images; n++)
      norm_relu_pool_second(along + n * from, along_weight, along_bias, given + n * to, maps + n * from, weight, bias, mean + n * C, rstd + n * C,
                            of_given + n * to, of_maps + n * from, of_weight + n * C, s, room.data());
  }
}

}  // namespace

extern "C" void float32_second(const float *along, const float *along_weight, const float *along_bias, const float *given, const float *maps,
                               const float *weight, const float *bias, const float *mean, const float *rstd, float *of_given, float *of_maps,
                               float *of_weight, int64_t n, int64_t h, int64_t w, int64_t c, int64_t pool, int64_t relu, int threads) {
  second(along, along_weight, along_bias, given, maps, weight, bias, mean, rstd, of_given, of_maps, of_weight, shape_of(n, h, w, c, pool, relu), threads);
}

#define CONDENSE_ENTRIES(T, NAME)                                                                                                          \
  extern "C" void NAME##_forward(const void *maps, const float *weight, const float *bias, void *out, float *mean, float *rstd,            \
                                 int64_t n, int64_t h, int64_t w, int64_t c, int64_t pool, int64_t relu, float eps, int threads) {         \
    forward((const T *)maps, weight, bias, (T *)out, mean, rstd, shape_of(n, h, w, c, pool, relu), eps, threads);                          \
  }                                                                                                                                        \
  extern "C" void NAME##_backward(const void *given, const void *maps, const float *weight, const float *bias, const float *mean,          \
                                  const float *rstd, void *gradient, float *sums, int64_t n, int64_t h, int64_t w, int64_t c,              \
                                  int64_t pool, int64_t relu, int threads) {                                                               \
    backward((const T *)given, (const T *)maps, weight, bias, mean, rstd, (T *)gradient, sums, shape_of(n, h, w, c, pool, relu), threads); \
  }

CONDENSE_ENTRIES(float, float32)
CONDENSE_ENTRIES(bf16, bfloat16)
