// The first stage of a ConvNet without gradients: convolution of images, which have few channels, then norm, ReLU and pooling.
//
// One image is one task: its map, many times as large as the image, never leaves the cache. The convolution is a product of patches and
// windows, row by row of the map; its bias is left out, as the norm takes the mean of every channel away.
#include <algorithm>
#include <cstring>
#include <vector>

#include "norm_relu_pool.h"
#include "product.h"

namespace {

constexpr int64_t BAND = 3;  // rows of the map at once: their patches stay in the first cache, and 32 columns fill products of 6 rows

// The image with a border of zeros: (height + 2 padding, width + 2 padding, channels).
void with_border(const float *image, float *out, int64_t height, int64_t width, int64_t channels, int64_t padding) {
  const int64_t line = width * channels, border = padding * channels, whole = line + 2 * border;
  std::memset(out, 0, sizeof(float) * size_t((height + 2 * padding) * whole));
  for (int64_t i = 0; i < height; i++) std::memcpy(out + (i + padding) * whole + border, image + i * line, sizeof(float) * size_t(line));
}

// Patches (cols, size * size * channels) of a row of the map; SPAN numbers of each line of a patch lie together, 0: any number.
template <int SPAN>
void patches_of(const float *lines, float *patches, int64_t cols, int64_t whole, int64_t channels, int64_t size) {
  const int64_t span = SPAN ? SPAN : size * channels;
  for (int64_t col = 0; col < cols; col++)
    for (int64_t a = 0; a < size; a++, patches += span)
      for (int64_t b = 0; b < span; b++) patches[b] = lines[a * whole + col * channels + b];
}

}  // namespace

// windows: (panels, size * size * channels, panel); out: (n, rows / pool, cols / pool, outputs).
extern "C" void float32_image_stage(const float *images, const float *windows, const float *weight, const float *bias, float *out, int64_t n,
                                    int64_t height, int64_t width, int64_t channels, int64_t outputs, int64_t size, int64_t padding,
                                    int64_t pool, float eps, int threads) {
  const int64_t rows = height + 2 * padding - size + 1, cols = width + 2 * padding - size + 1, depth = size * size * channels;
  const int64_t panel = panel_of(outputs), whole = (width + 2 * padding) * channels, to = (rows / pool) * (cols / pool) * outputs;
  const Shape shape{n, rows, cols, outputs, pool};
#pragma omp parallel num_threads(threads)
  {
    Buffer map(rows * cols * outputs), patches(BAND * cols * depth), bordered((height + 2 * padding) * whole);
    std::vector<float> room(5 * outputs);
#pragma omp for schedule(static)
    for (int64_t image = 0; image < n; image++) {
      with_border(images + image * height * width * channels, bordered.get(), height, width, channels, padding);
      for (int64_t first = 0; first < rows; first += BAND) {
        const int64_t count = std::min(BAND, rows - first);
        for (int64_t row = 0; row < count; row++) {
          const float *lines = bordered.get() + (first + row) * whole;
          if (size * channels == 9) patches_of<9>(lines, patches.get() + row * cols * depth, cols, whole, channels, size);
          else patches_of<0>(lines, patches.get() + row * cols * depth, cols, whole, channels, size);
        }
        multiply(count * cols, outputs, depth, patches.get(), depth, 1, windows, panel, depth * panel, map.get() + first * cols * outputs,
                 outputs, panel, false);
      }
      float *mean = room.data() + 3 * outputs;
      norm_relu_pool(map.get(), weight, bias, out + image * to, mean, mean + outputs, shape, eps, room.data());
    }
  }
}
