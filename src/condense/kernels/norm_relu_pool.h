// Instance norm, affine map, ReLU where there is one, and 2 x 2 average pooling of the channels-last map of one image, and the gradient.
//
// Sums run over the pixels in their order, a channel a lane.
#pragma once
#include <cmath>
#include <limits>

#include "types.h"

namespace {

inline float at_least(float value, float floor) { return value < floor ? floor : value; }  // what is no number stays none

struct Shape {
  int64_t images, height, width, channels, pool;  // pool: 2, or 1 for none; odd rows and columns at the end are left out
  float floor = 0;                                // of the affine map: 0 is the ReLU
};

constexpr float NO_FLOOR = std::numeric_limits<float>::lowest();  // without a ReLU

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
    const float d = first[c] / float(pixels), variance = at_least(second[c] / float(pixels) - d * d, 0);
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
          float sum = at_least((load(x, at + c) - m[c]) * slope[c] + bias[c], s.floor);
          sum += at_least((load(x, at + C + c) - m[c]) * slope[c] + bias[c], s.floor);
          sum += at_least((load(x, below + c) - m[c]) * slope[c] + bias[c], s.floor);
          sum += at_least((load(x, below + C + c) - m[c]) * slope[c] + bias[c], s.floor);
          store(y, to + c, sum * share);
        }
      } else {
#pragma omp simd
        for (int64_t c = 0; c < C; c++) store(y, to + c, at_least((load(x, at + c) - m[c]) * slope[c] + bias[c], s.floor));
      }
    }
}

// Its gradient, from that of y (`given`): that of x, which may lie where x does, and `sums` (2, channels), of bias and weight.
// `room` holds 3 * channels numbers, `none` channels zeros.
template <class T>
void norm_relu_pool_gradient(const T *given, const T *x, const float *weight, const float *bias, const float *m, const float *r, T *gradient,
                             float *sums, Shape s, float *room, const T *none) {
  const int64_t pixels = s.height * s.width, C = s.channels, rows = s.height / s.pool, cols = s.width / s.pool;
  const float share = 1.0f / float(s.pool * s.pool);
  float *slope = room, *by_mean = room + C, *by_value = room + 2 * C, *to_bias = sums, *to_weight = sums + C;
  for (int64_t c = 0; c < C; c++) {
    slope[c] = r[c] * weight[c];
    to_bias[c] = to_weight[c] = 0;
  }
  for (int64_t i = 0; i < rows * s.pool; i++)
    for (int64_t j = 0; j < cols * s.pool; j++) {
      const T *at = x + (i * s.width + j) * C, *from = given + ((i / s.pool) * cols + j / s.pool) * C;
#pragma omp simd
      for (int64_t c = 0; c < C; c++) {
        const float value = load(at, c) - m[c], part = value * slope[c] + bias[c] > s.floor ? load(from, c) * share : 0.0f;
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
      const T *at = x + (i * s.width + j) * C, *from = pooled ? given + ((i / s.pool) * cols + j / s.pool) * C : none;
      T *to = gradient + (i * s.width + j) * C;
#pragma omp simd
      for (int64_t c = 0; c < C; c++) {
        const float value = load(at, c) - m[c], part = value * slope[c] + bias[c] > s.floor ? load(from, c) * share : 0.0f;
        store(to, c, part * slope[c] - by_mean[c] - by_value[c] * value);
      }
    }
}

// The gradient of that gradient. `along` (height, width, channels) is what is asked of the gradient of x, `along_weight` and
// `along_bias` (channels) of those of weight and bias. Gives the gradients of `given`, of x, and of the weight (channels).
//
// With v = along, n = (x - m) r, p what comes back through pooling and ReLU, and M the mean over the pixels, the gradient of x is
// g = weight r (p - M[p] - n M[pn]). As a function of p it is its own transpose. Its derivative along x is
// -weight r^2 (n (M[vp] - M[v] M[p] - 3 M[vn] M[pn]) + M[pn] (v - M[v]) + M[vn] (p - M[p])). `room` holds 10 * channels numbers.
template <class T>
void norm_relu_pool_second(const T *along, const float *along_weight, const float *along_bias, const T *given, const T *x, const float *weight,
                           const float *bias, const float *m, const float *r, T *of_given, T *of_x, float *of_weight, Shape s, float *room) {
  const int64_t pixels = s.height * s.width, C = s.channels, rows = s.height / s.pool, cols = s.width / s.pool;
  const float share = 1.0f / float(s.pool * s.pool), each = 1.0f / float(pixels);
  float *p1 = room, *pn = room + C, *v1 = room + 2 * C, *vn = room + 3 * C, *vp = room + 4 * C, *by_n = room + 5 * C;
  float *part = room + 6 * C, *value = room + 7 * C, *slope = room + 8 * C, *open = room + 9 * C;
  for (int64_t c = 0; c < 5 * C; c++) room[c] = 0;
  for (int64_t c = 0; c < C; c++) slope[c] = r[c] * weight[c];
  for (int64_t k = 0; k < rows * cols * C; k++) store(of_given, k, 0.0f);
  // What comes back to pixel (i, j), where the ReLU lets it through by the same test as in the first gradient, and its normalised value.
  const auto at_pixel = [&](int64_t i, int64_t j) {
    const bool pooled = i < rows * s.pool && j < cols * s.pool;
    const T *at = x + (i * s.width + j) * C, *from = given + (pooled ? ((i / s.pool) * cols + j / s.pool) * C : 0);
#pragma omp simd
    for (int64_t c = 0; c < C; c++) {
      const float d = load(at, c) - m[c];
      value[c] = d * r[c];
      open[c] = pooled && d * slope[c] + bias[c] > s.floor ? share : 0.0f;
      part[c] = open[c] * load(from, c);
    }
    return pooled;
  };
  for (int64_t i = 0; i < s.height; i++)
    for (int64_t j = 0; j < s.width; j++) {
      at_pixel(i, j);
      const T *v = along + (i * s.width + j) * C;
#pragma omp simd
      for (int64_t c = 0; c < C; c++) {
        const float a = load(v, c);
        p1[c] += part[c];
        pn[c] += part[c] * value[c];
        v1[c] += a;
        vn[c] += a * value[c];
        vp[c] += a * part[c];
      }
    }
  for (int64_t c = 0; c < C; c++) {
    for (float *mean : {p1, pn, v1, vn, vp}) mean[c] *= each;
    of_weight[c] = r[c] * float(pixels) * (vp[c] - v1[c] * p1[c] - vn[c] * pn[c]);
    by_n[c] = vp[c] - v1[c] * p1[c] - 3 * vn[c] * pn[c];
  }
  for (int64_t i = 0; i < s.height; i++)
    for (int64_t j = 0; j < s.width; j++) {
      const bool pooled = at_pixel(i, j);
      const T *v = along + (i * s.width + j) * C;
      T *to = of_x + (i * s.width + j) * C, *back = of_given + (pooled ? ((i / s.pool) * cols + j / s.pool) * C : 0);
#pragma omp simd
      for (int64_t c = 0; c < C; c++) {
        const float a = load(v, c), apart = part[c] - p1[c];
        const float curved = by_n[c] * value[c] + pn[c] * (a - v1[c]) + vn[c] * apart;
        store(to, c, along_weight[c] * r[c] * (apart - value[c] * pn[c]) - slope[c] * r[c] * curved);
        const float to_part = slope[c] * (a - v1[c] - value[c] * vn[c]) + along_weight[c] * value[c] + along_bias[c];
        if (pooled) store(back, c, load(back, c) + open[c] * to_part);
      }
    }
}

}  // namespace
