// Convolution of channels-last maps by 3 x 3 windows with a border of one zero, and its gradient with respect to the windows, by
// Winograd's way: 4 x 4 pixels of the result from 6 x 6 of the map with 36 products instead of 144 for each pair of channels.
//
// Source: Lavin and Gray 2016, F(4 x 4, 3 x 3), for the points 0, 1, -1, 2, -2 and infinity. Windows lie with their 9 places first.
// Every tile is computed alone and sums run over the channels in their order: neither threads nor the batch matter to a tile.
#include <algorithm>

#include "product.h"

namespace {

constexpr int SIDE = 6, STEP = 4, WINDOW = 3, PLACES = SIDE * SIDE;
constexpr int64_t TILES = 24;  // at once: both transformed sides then stay in the second cache
constexpr int64_t WIDE = 1 << 16;  // pairs of channels from which on sums are large beside the tiles, of which then more are added at once
constexpr int64_t FEW = 4;     // blocks of so many tiles for a thread; with fewer, some threads would wait for others

// The transforms of one row or column: of a map (6 -> 6), of a result (6 -> 4), of a window (3 -> 6), and the transposes of the last two.
inline void of_map(const vec *x, vec *y, int step) {
  const vec x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step], x4 = x[4 * step], x5 = x[5 * step];
  const vec even = x4 - 4 * x2, odd = x3 - 4 * x1, near = x4 - x2, far = 2 * (x3 - x1);
  y[0] = 4 * (x0 - x2) + near;
  y[step] = even + odd;
  y[2 * step] = even - odd;
  y[3 * step] = near + far;
  y[4 * step] = near - far;
  y[5 * step] = 4 * x1 - 5 * x3 + x5;
}
inline void of_result(const vec *x, vec *y, int from, int to) {
  const vec s1 = x[from] + x[2 * from], d1 = x[from] - x[2 * from], s2 = x[3 * from] + x[4 * from], d2 = x[3 * from] - x[4 * from];
  y[0] = x[0] + s1 + s2;
  y[to] = d1 + 2 * d2;
  y[2 * to] = s1 + 4 * s2;
  y[3 * to] = d1 + 8 * d2 + x[5 * from];
}
inline void of_given(const vec *x, vec *y, int from, int to) {
  const vec x0 = x[0], x1 = x[from], x2 = x[2 * from], x3 = x[3 * from];
  const vec s1 = x0 + x2, d1 = x1 + x3, s2 = x0 + 4 * x2, d2 = 2 * x1 + 8 * x3;
  y[0] = x0;
  y[to] = s1 + d1;
  y[2 * to] = s1 - d1;
  y[3 * to] = s2 + d2;
  y[4 * to] = s2 - d2;
  y[5 * to] = x3;
}
inline void of_window(const vec *x, vec *y, int from, int to) {
  const vec x0 = x[0], x1 = x[from], x2 = x[2 * from], ends = (x0 + x2) * (1 / 6.0f), middle = x1 * (1 / 6.0f);
  const vec far = x0 * (1 / 24.0f) + x2 * (1 / 6.0f), between = x1 * (1 / 12.0f);
  y[0] = x0 * 0.25f;
  y[to] = -ends - middle;
  y[2 * to] = middle - ends;
  y[3 * to] = far + between;
  y[4 * to] = far - between;
  y[5 * to] = x2;
}
inline void to_window(const vec *x, vec *y, int from, int to) {
  const vec x1 = x[from], x2 = x[2 * from], x3 = x[3 * from], x4 = x[4 * from], near = (x1 + x2) * (1 / 6.0f);
  y[0] = x[0] * 0.25f - near + (x3 + x4) * (1 / 24.0f);
  y[to] = (x2 - x1) * (1 / 6.0f) + (x3 - x4) * (1 / 12.0f);
  y[2 * to] = (x3 + x4) * (1 / 6.0f) - near + x[5 * from];
}

struct Maps {
  int64_t images, height, width;
  int64_t down() const { return (height + STEP - 1) / STEP; }
  int64_t right() const { return (width + STEP - 1) / STEP; }
  int64_t tiles() const { return images * down() * right(); }
};

// The addresses of the pixels of a tile, `size` x `size` from `border` above and left of it; `none` for those outside.
inline void pixels_of(float **found, float *maps, Maps m, int64_t channels, int64_t tile, int size, int border, float *none) {
  const int64_t image = tile / (m.down() * m.right()), i = tile / m.right() % m.down() * STEP - border, j = tile % m.right() * STEP - border;
  for (int a = 0; a < size; a++)
    for (int b = 0; b < size; b++) {
      const bool inside = i + a >= 0 && i + a < m.height && j + b >= 0 && j + b < m.width;
      found[a * size + b] = inside ? maps + ((image * m.height + i + a) * m.width + j + b) * channels : none;
    }
}

// Tiles first .. first + count of maps -> (36, count, channels).
void transform_maps(const float *maps, Maps m, int64_t channels, int64_t first, int64_t count, float *out, float *none) {
  float *pixel[PLACES];
  for (int64_t t = 0; t < count; t++) {
    pixels_of(pixel, (float *)maps, m, channels, first + t, SIDE, 1, none);
    for (int64_t c = 0; c < channels; c += LANES) {
      vec x[PLACES];
      for (int p = 0; p < PLACES; p++) x[p] = at(pixel[p] + c);
      for (int j = 0; j < SIDE; j++) of_map(x + j, x + j, SIDE);
      for (int i = 0; i < SIDE; i++) of_map(x + SIDE * i, x + SIDE * i, 1);
      for (int p = 0; p < PLACES; p++) put(out + (p * count + t) * channels + c, x[p]);
    }
  }
}

// The same of the gradient of a result.
void transform_given(const float *given, Maps m, int64_t channels, int64_t first, int64_t count, float *out, float *none) {
  float *pixel[STEP * STEP];
  for (int64_t t = 0; t < count; t++) {
    pixels_of(pixel, (float *)given, m, channels, first + t, STEP, 0, none);
    for (int64_t c = 0; c < channels; c += LANES) {
      vec x[STEP * STEP], half[SIDE * STEP], y[PLACES];
      for (int p = 0; p < STEP * STEP; p++) x[p] = at(pixel[p] + c);
      for (int j = 0; j < STEP; j++) of_given(x + j, half + j, STEP, STEP);
      for (int i = 0; i < SIDE; i++) of_given(half + STEP * i, y + SIDE * i, 1, 1);
      for (int p = 0; p < PLACES; p++) put(out + (p * count + t) * channels + c, y[p]);
    }
  }
}

// (36, count, channels) -> the pixels of a result with `outputs` channels, of which these come first, and which begins with `bias` (channels).
void transform_back(const float *from, float *out, const float *bias, Maps m, int64_t outputs, int64_t channels, int64_t first, int64_t count,
                    float *none) {
  float *pixel[STEP * STEP];
  for (int64_t t = 0; t < count; t++) {
    pixels_of(pixel, out, m, outputs, first + t, STEP, 0, none);
    for (int64_t c = 0; c < channels; c += LANES) {
      vec x[PLACES], half[STEP * SIDE], y[STEP * STEP];
      for (int p = 0; p < PLACES; p++) x[p] = at(from + (p * count + t) * channels + c);
      for (int j = 0; j < SIDE; j++) of_result(x + j, half + j, SIDE, SIDE);
      for (int i = 0; i < STEP; i++) of_result(half + SIDE * i, y + STEP * i, 1, 1);
      const vec start = at(bias + c);
      for (int p = 0; p < STEP * STEP; p++) put(pixel[p] + (pixel[p] == none ? 0 : c), y[p] + start);
    }
  }
}

// windows (outputs, inputs, 3, 3) -> (36, panels, inputs, panel). `backwards`: those of the convolution that gives the gradient of the maps,
// whose windows these are turned around, (inputs, outputs, 3, 3).
void transform_windows(const float *windows, float *out, int64_t inputs, int64_t outputs, bool backwards, int threads) {
  constexpr int PLACED = WINDOW * WINDOW;
  const int64_t panel = panel_of(outputs), pairs = inputs * outputs;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t c = 0; c < pairs; c += LANES) {
    const int64_t input = c / panel % inputs, output = c / (inputs * panel) * panel + c % panel;
    alignas(64) float drawn[PLACED][LANES];
    for (int lane = 0; lane < LANES; lane++) {
      const float *window = windows + PLACED * (backwards ? input * outputs + output + lane : (output + lane) * inputs + input);
      for (int p = 0; p < PLACED; p++) drawn[p][lane] = window[backwards ? PLACED - 1 - p : p];
    }
    vec x[PLACED], half[SIDE * WINDOW], y[PLACES];
    for (int p = 0; p < PLACED; p++) x[p] = at(drawn[p]);
    for (int j = 0; j < WINDOW; j++) of_window(x + j, half + j, WINDOW, WINDOW);
    for (int i = 0; i < SIDE; i++) of_window(half + WINDOW * i, y + SIDE * i, 1, 1);
    for (int p = 0; p < PLACES; p++) put(out + p * pairs + c, y[p]);
  }
}

// transformed windows (36, panels, inputs, panel). Where there are few tiles for the threads, each takes a part of the panels.
void convolve(const float *maps, const float *transformed, const float *bias, float *out, Maps m, int64_t inputs, int64_t outputs, int threads) {
  const int64_t blocks = (m.tiles() + TILES - 1) / TILES, panel = panel_of(outputs), panels = outputs / panel, pairs = inputs * outputs;
  const int64_t parts = blocks < FEW * threads ? std::min<int64_t>(threads, panels) : 1;
#pragma omp parallel num_threads(threads)
  {
    Buffer left(PLACES * TILES * inputs), right(PLACES * TILES * outputs), none(std::max<int64_t>(inputs, LANES)), aside(LANES);
    std::fill_n(none.get(), inputs, 0.0f);
#pragma omp for schedule(static)
    for (int64_t task = 0; task < parts * blocks; task++) {
      const int64_t part = task / blocks, first = task % blocks * TILES, count = std::min(TILES, m.tiles() - first);
      const int64_t from = panels * part / parts * panel, channels = panels * (part + 1) / parts * panel - from;
      transform_maps(maps, m, inputs, first, count, left.get(), none.get());
      for (int p = 0; p < PLACES; p++)
        multiply(count, channels, inputs, left.get() + p * count * inputs, inputs, 1, transformed + p * pairs + from * inputs, panel,
                 inputs * panel, right.get() + p * count * channels, channels, panel, false);
      transform_back(right.get(), out + from, bias + from, m, outputs, channels, first, count, aside.get());
    }
  }
}

// windows (9, inputs, outputs). Every thread sums up its own tiles, and these sums are added in the order of the threads.
void window_gradient(const float *given, const float *maps, float *windows, Maps m, int64_t inputs, int64_t outputs, int threads) {
  const int64_t panel = panel_of(outputs), pairs = inputs * outputs, most = pairs < WIDE ? TILES : 4 * TILES;
  Buffer sums(threads * PLACES * pairs);
#pragma omp parallel num_threads(threads)
  {
    Buffer left(PLACES * most * inputs), right(PLACES * most * outputs), none(std::max(inputs, outputs));
    std::fill_n(none.get(), std::max(inputs, outputs), 0.0f);
#pragma omp for schedule(static)
    for (int thread = 0; thread < threads; thread++) {
      float *own = sums.get() + thread * PLACES * pairs;
      const int64_t begin = m.tiles() * thread / threads, end = m.tiles() * (thread + 1) / threads;
      if (begin == end) std::fill_n(own, PLACES * pairs, 0.0f);
      for (int64_t first = begin; first < end; first += most) {
        const int64_t count = std::min(most, end - first);
        transform_maps(maps, m, inputs, first, count, left.get(), none.get());
        transform_given(given, m, outputs, first, count, right.get(), none.get());
        for (int p = 0; p < PLACES; p++)
          multiply(inputs, outputs, count, left.get() + p * count * inputs, 1, inputs, right.get() + p * count * outputs, outputs, panel,
                   own + p * pairs, outputs, panel, first > begin);
      }
    }
#pragma omp for schedule(static)
    for (int64_t c = 0; c < pairs; c += LANES) {
      vec x[PLACES], half[WINDOW * SIDE], y[WINDOW * WINDOW];
      for (int p = 0; p < PLACES; p++) {
        x[p] = at(sums.get() + p * pairs + c);
        for (int thread = 1; thread < threads; thread++) x[p] += at(sums.get() + (thread * PLACES + p) * pairs + c);
      }
      for (int j = 0; j < SIDE; j++) to_window(x + j, half + j, SIDE, SIDE);
      for (int i = 0; i < WINDOW; i++) to_window(half + SIDE * i, y + WINDOW * i, 1, 1);
      for (int p = 0; p < WINDOW * WINDOW; p++) put(windows + p * pairs + c, y[p]);
    }
  }
}

}  // namespace

extern "C" int64_t panel(int64_t channels) { return panel_of(channels); }

extern "C" void float32_winograd(const float *maps, const float *windows, const float *bias, float *out, int64_t n, int64_t h, int64_t w,
                                 int64_t inputs, int64_t outputs, int threads) {
  Buffer transformed(PLACES * inputs * outputs);
  transform_windows(windows, transformed.get(), inputs, outputs, false, threads);
  convolve(maps, transformed.get(), bias, out, Maps{n, h, w}, inputs, outputs, threads);
}

// The gradient of the maps.
extern "C" void float32_winograd_backwards(const float *maps, const float *windows, const float *bias, float *out, int64_t n, int64_t h, int64_t w,
                                           int64_t inputs, int64_t outputs, int threads) {
  Buffer transformed(PLACES * inputs * outputs);
  transform_windows(windows, transformed.get(), inputs, outputs, true, threads);
  convolve(maps, transformed.get(), bias, out, Maps{n, h, w}, inputs, outputs, threads);
}

extern "C" void float32_winograd_transform(const float *windows, float *out, int64_t inputs, int64_t outputs, int64_t backwards, int threads) {
  transform_windows(windows, out, inputs, outputs, backwards != 0, threads);
}

extern "C" void float32_winograd_transformed(const float *maps, const float *transformed, const float *bias, float *out, int64_t n, int64_t h,
                                             int64_t w, int64_t inputs, int64_t outputs, int threads) {
  convolve(maps, transformed, bias, out, Maps{n, h, w}, inputs, outputs, threads);
}

extern "C" void float32_winograd_windows(const float *given, const float *maps, float *windows, int64_t n, int64_t h, int64_t w, int64_t inputs,
                                         int64_t outputs, int threads) {
  window_gradient(given, maps, windows, Maps{n, h, w}, inputs, outputs, threads);
}
