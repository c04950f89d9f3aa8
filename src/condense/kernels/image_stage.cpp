// The first stage of a ConvNet: convolution of images, which have few channels, then norm, ReLU and pooling; and the gradients of its
// weights from that of the result, where the images have none.
//
// One image is one task: its map, many times as large as the image, does not leave the cache if it is small, and is computed anew for the gradient.
// The convolution is a product of patches and windows; its bias is left out, as the norm takes the mean of every channel away.
#include <algorithm>
#include <cstring>
#include <vector>

#include "norm_relu_pool.h"
#include "product.h"

namespace {

constexpr int64_t BAND = 3;  // rows of the map at once: their patches stay in the first cache, and 32 columns fill products of 6 rows

struct Layer {
  int64_t height, width, channels, outputs, size, padding;
  int64_t rows() const { return height + 2 * padding - size + 1; }
  int64_t cols() const { return width + 2 * padding - size + 1; }
  int64_t depth() const { return size * size * channels; }
  int64_t line() const { return (width + 2 * padding) * channels; }  // of the image with its border
  int64_t map() const { return rows() * cols() * outputs; }
};

// The image with a border of zeros: (height + 2 padding, width + 2 padding, channels).
void with_border(const float *image, float *out, Layer l) {
  const int64_t line = l.width * l.channels, border = l.padding * l.channels;
  std::memset(out, 0, sizeof(float) * size_t((l.height + 2 * l.padding) * l.line()));
  for (int64_t i = 0; i < l.height; i++)
    std::memcpy(out + (i + l.padding) * l.line() + border, image + i * line, sizeof(float) * size_t(line));
}

// Patches (cols, size * size * channels) of a row of the map; SPAN numbers of each line of a patch lie together, 0: any number.
template <int SPAN>
void patches_of_row(const float *lines, float *patches, Layer l) {
  const int64_t span = SPAN ? SPAN : l.size * l.channels;
  for (int64_t col = 0; col < l.cols(); col++)
    for (int64_t a = 0; a < l.size; a++, patches += span)
      for (int64_t b = 0; b < span; b++) patches[b] = lines[a * l.line() + col * l.channels + b];
}

void patches_of(const float *bordered, float *patches, int64_t first, int64_t count, Layer l) {
  for (int64_t row = first; row < first + count; row++, patches += l.cols() * l.depth()) {
    if (l.size * l.channels == 9) patches_of_row<9>(bordered + row * l.line(), patches, l);
    else patches_of_row<0>(bordered + row * l.line(), patches, l);
  }
}

struct Room {
  Buffer map, patches, bordered;
  std::vector<float> norm, none;
  explicit Room(Layer l)
      : map(l.map()), patches(BAND * l.cols() * l.depth()), bordered((l.height + 2 * l.padding) * l.line()), norm(3 * l.outputs),
        none(l.outputs) {}
};

// windows: (panels, size * size * channels, panel).
void map_of(const float *image, const float *windows, Layer l, Room &room) {
  const int64_t panel = panel_of(l.outputs), depth = l.depth();
  with_border(image, room.bordered.get(), l);
  for (int64_t first = 0; first < l.rows(); first += BAND) {
    const int64_t count = std::min(BAND, l.rows() - first);
    patches_of(room.bordered.get(), room.patches.get(), first, count, l);
    multiply(count * l.cols(), l.outputs, depth, room.patches.get(), depth, 1, windows, panel, depth * panel,
             room.map.get() + first * l.cols() * l.outputs, l.outputs, panel, false);
  }
}

}  // namespace

// out: (n, rows / pool, cols / pool, outputs); mean and rstd: (n, outputs).
extern "C" void float32_image_stage(const float *images, const float *windows, const float *weight, const float *bias, float *out, float *mean,
                                    float *rstd, int64_t n, int64_t height, int64_t width, int64_t channels, int64_t outputs, int64_t size,
                                    int64_t padding, int64_t pool, float eps, int threads) {
  const Layer l{height, width, channels, outputs, size, padding};
  const Shape shape{n, l.rows(), l.cols(), outputs, pool};
  const int64_t from = height * width * channels, to = (l.rows() / pool) * (l.cols() / pool) * outputs;
#pragma omp parallel num_threads(threads)
  {
    Room room(l);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < n; i++) {
      map_of(images + i * from, windows, l, room);
      norm_relu_pool(room.map.get(), weight, bias, out + i * to, mean + i * outputs, rstd + i * outputs, shape, eps, room.norm.data());
    }
  }
}

// found: (size * size * channels, outputs); sums: (n, 2, outputs), of the norm. Every thread sums up its own images, and these sums are
// added in the order of the threads.
extern "C" void float32_image_stage_gradient(const float *given, const float *images, const float *windows, const float *weight,
                                             const float *bias, const float *mean, const float *rstd, float *found, float *sums, int64_t n,
                                             int64_t height, int64_t width, int64_t channels, int64_t outputs, int64_t size, int64_t padding,
                                             int64_t pool, int threads) {
  const Layer l{height, width, channels, outputs, size, padding};
  const Shape shape{n, l.rows(), l.cols(), outputs, pool};
  const int64_t from = height * width * channels, to = (l.rows() / pool) * (l.cols() / pool) * outputs, depth = l.depth();
  std::vector<float> parts(size_t(threads * depth * outputs));
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t thread = 0; thread < threads; thread++) {
    Room room(l);
    float *own = parts.data() + thread * depth * outputs;
    for (int64_t i = n * thread / threads; i < n * (thread + 1) / threads; i++) {
      float *map = room.map.get();
      map_of(images + i * from, windows, l, room);
      norm_relu_pool_gradient(given + i * to, map, weight, bias, mean + i * outputs, rstd + i * outputs, map, sums + i * 2 * outputs, shape,
                              room.norm.data(), room.none.data());
      for (int64_t first = 0; first < l.rows(); first += BAND) {
        const int64_t count = std::min(BAND, l.rows() - first), panel = panel_of(outputs);
        patches_of(room.bordered.get(), room.patches.get(), first, count, l);
        multiply(depth, outputs, count * l.cols(), room.patches.get(), 1, depth, map + first * l.cols() * outputs, outputs, panel, own,
                 outputs, panel, true);
      }
    }
  }
  for (int64_t k = 0; k < depth * outputs; k++) {
    found[k] = parts[k];
    for (int64_t thread = 1; thread < threads; thread++) found[k] += parts[thread * depth * outputs + k];
  }
}
