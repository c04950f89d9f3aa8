// Instance norm, affine map, ReLU and 2 x 2 average pooling of the channels-last map of one image.
//
// Sums run over the pixels in their order, a channel a lane.
#pragma once
#include <cmath>

#include "types.h"

namespace {

inline float relu(float value) { return value < 0 ? 0 : value; }  // what is no number stays none

struct Shape {
  int64_t images, height, width, channels, pool;  // pool: 2, or 1 for none; odd rows and columns at the end are left out
};

// One image: x (height, width, channels) -> y (height / pool, width / pool, channels); m and r (channels) become its mean and inverse
// deviation. `room` holds 3 * channels numbers.
template <class T>
void norm_relu_pool(const T *x, const float *weight, const float *bias, T *y, float *m, float *r, Shape s, float eps, float *room) {
  const int64_t pixels = s.height * s.width, C = s.channels, rows = s.height / s.pool, cols = s.width / s.pool;
  const float share = 1.0f / float(s.pool * s.pool);
  float *first = room, *second = room + C, *slope = room + 2 * C;
  for (int64_t c = 0; c < C; c++) first[c] = second[c] = 0;
  for (int64_t p = 1; p < pixels; p++)  // relative to the first pixel: exact for a constant map
#pragma omp simd
    for (int64_t c = 0; c < C; c++) {
      const float d = load(x, p * C + c) - load(x, c);
      first[c] += d;
      second[c] += d * d;
    }
  for (int64_t c = 0; c < C; c++) {
    const float d = first[c] / float(pixels), variance = relu(second[c] / float(pixels) - d * d);
    m[c] = load(x, c) + d;
    r[c] = 1.0f / std::sqrt(variance + eps);
    slope[c] = r[c] * weight[c];
  }
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++) {
      const int64_t at = (i * s.pool * s.width + j * s.pool) * C, to = (i * cols + j) * C;
      if (s.pool == 2) {
        const int64_t below = at + s.width * C;
#pragma omp simd
        for (int64_t c = 0; c < C; c++) {
          float sum = relu((load(x, at + c) - m[c]) * slope[c] + bias[c]);
          sum += relu((load(x, at + C + c) - m[c]) * slope[c] + bias[c]);
          sum += relu((load(x, below + c) - m[c]) * slope[c] + bias[c]);
          sum += relu((load(x, below + C + c) - m[c]) * slope[c] + bias[c]);
          store(y, to + c, sum * share);
        }
      } else {
#pragma omp simd
        for (int64_t c = 0; c < C; c++) store(y, to + c, relu((load(x, at + c) - m[c]) * slope[c] + bias[c]));
      }
    }
}

}  // namespace
