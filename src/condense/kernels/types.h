// Numbers as torch stores them, read and written as float.
#pragma once
#include <cstdint>
#include <cstring>

struct bf16 {
  uint16_t bits;
};

inline float load(const float *p, int64_t i) { return p[i]; }
inline float load(const bf16 *p, int64_t i) {
  uint32_t wide = uint32_t(p[i].bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}
inline void store(float *p, int64_t i, float value) { p[i] = value; }
inline void store(bf16 *p, int64_t i, float value) {  // to the nearest, halves to even; what is no number stays none
  uint32_t wide;
  std::memcpy(&wide, &value, 4);
  uint32_t rounded = (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;
  p[i].bits = uint16_t((wide & 0x7fffffff) > 0x7f800000 ? (wide >> 16) | 0x40 : rounded);
}
