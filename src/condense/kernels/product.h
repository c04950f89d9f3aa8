// Products of small matrices of float, columns in panels that fill the registers; sums run over the depth in its order.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16, WIDEST = 4;  // sums of 6 rows by WIDEST vectors fill the registers
#else
constexpr int LANES = 8, WIDEST = 2;
#endif
constexpr int ROWS = 6;

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline vec at(const float *p) { return *(const vec *)p; }
inline void put(float *p, vec value) { *(vec *)p = value; }

// c (R, V vectors) = or += a (R, depth) by b (depth, V vectors).
template <int R, int V>
inline void product(const float *a, int64_t row, int64_t col, const float *b, int64_t below, float *c, int64_t next, int64_t depth, bool add) {
  vec sum[R][V];
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) sum[r][v] = add ? at(c + r * next + v * LANES) : vec{};
  for (int64_t k = 0; k < depth; k++) {
    vec right[V];
    for (int v = 0; v < V; v++) right[v] = at(b + k * below + v * LANES);
    for (int r = 0; r < R; r++) {
      const float left = a[r * row + k * col];
      for (int v = 0; v < V; v++) sum[r][v] += left * right[v];
    }
  }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) put(c + r * next + v * LANES, sum[r][v]);
}

template <int V>
void rows_of(int64_t rows, const float *a, int64_t row, int64_t col, const float *b, int64_t below, float *c, int64_t next, int64_t depth,
             bool add) {
  int64_t r = 0;
  for (; r + ROWS <= rows; r += ROWS) product<ROWS, V>(a + r * row, row, col, b, below, c + r * next, next, depth, add);
  for (; r + 2 <= rows; r += 2) product<2, V>(a + r * row, row, col, b, below, c + r * next, next, depth, add);
  for (; r < rows; r++) product<1, V>(a + r * row, row, col, b, below, c + r * next, next, depth, add);
}

// Columns in panels of `panel`; `across` is the distance from one panel of b to the next.
void multiply(int64_t rows, int64_t cols, int64_t depth, const float *a, int64_t row, int64_t col, const float *b, int64_t below,
              int64_t across, float *c, int64_t next, int64_t panel, bool add) {
  for (int64_t j = 0; j < cols; j += panel, b += across) {
    if (panel == 4 * LANES) rows_of<WIDEST>(rows, a, row, col, b, below, c + j, next, depth, add);
    else if (panel == 2 * LANES) rows_of<2>(rows, a, row, col, b, below, c + j, next, depth, add);
    else rows_of<1>(rows, a, row, col, b, below, c + j, next, depth, add);
  }
}

int64_t panel_of(int64_t channels) {
  int64_t panel = WIDEST * LANES;
  while (channels % panel) panel /= 2;
  return panel;
}

struct Buffer {  // not cleared, on a line of the cache
  std::unique_ptr<float, decltype(&std::free)> held;
  explicit Buffer(int64_t numbers) : held((float *)std::aligned_alloc(64, (4 * numbers + 63) / 64 * 64), &std::free) {}
  float *get() const { return held.get(); }
};

}  // namespace
