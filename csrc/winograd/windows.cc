// Equal outputs where windows are equal (winograd.h), compiled once for each instruction set
// (GOCP_ISA is v3 or v4). Like tiles.cc it uses no std:: templates.
//
// Of most images that a camera took no pixel comes twice, and that is found by a few channels of
// each. Pixels of the others are numbered: a pixel has the number of the first that equals it,
// found by a hash of its channels and then held against it. Windows are nine numbers, found again
// in the same way.
#include "windows.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../host/scratch.h"

namespace GOCP_NAMESPACE {

using gocp::ConvShape;
using gocp::Scratch;

#define INLINE static inline __attribute__((always_inline))

constexpr int kLanes = 16;                 // channels at a time
constexpr int kTaps = 9;                   // of a window
constexpr uint32_t kFactor = 0x9e3779b1u;  // odd, so that multiplying by it forgets nothing

typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));

constexpr int kFew = 8;  // channels that tell most pixels apart

// A hash of the first few channels that are not all zero: a sum of products, of which the upper
// half depends on all.
INLINE uint32_t hash_few(const float* pixel, int channels) {
  uint64_t v[kFew / 2];
  for (int c = 0;; c += kFew) {
    memcpy(v, pixel + c, sizeof v);
    if ((v[0] | v[1] | v[2] | v[3]) != 0 || c + kFew == channels) break;
  }
  const uint64_t sum = v[0] * 0x9e3779b97f4a7c15u + v[1] * 0xc2b2ae3d27d4eb4fu +
                       v[2] * 0x165667b19e3779f9u + v[3] * 0xd6e8feb86659fd93u;
  return static_cast<uint32_t>(sum >> 32);
}

static size_t seen_slots(const ConvShape& g) {
  size_t slots = 64;
  while (slots < static_cast<size_t>(4) * g.h * g.w) slots *= 2;
  return slots;
}

bool may_repeat(const ConvShape& g, const float* x) {
  thread_local Scratch scratch;
  const size_t slots = seen_slots(g), pixels = static_cast<size_t>(g.h) * g.w;
  auto* seen = static_cast<uint32_t*>(scratch.find(slots * sizeof(uint32_t)));
  if (seen == nullptr) return true;  // settle_windows says what is lacking
  memset(seen, 0, slots * sizeof(uint32_t));
  seen[1] = 1;  // zeros of the padding: their hash is 0, which is made 1, for 0 is a free slot
  for (size_t p = 0; p < pixels; p++, x += g.c) {
    uint32_t hash = hash_few(x, g.c);
    hash += hash == 0;
    size_t at = hash & (slots - 1);
    for (; seen[at] != 0; at = (at + 1) & (slots - 1)) {
      if (seen[at] == hash) return true;
    }
    seen[at] = hash;
  }
  return false;
}

INLINE Words load(const float* p) {
  Words v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

INLINE uint32_t hash_pixel(const float* pixel, int channels) {
  Words h = {};
  for (int c = 0; c < channels; c += kLanes) h = (h ^ load(pixel + c)) * kFactor;
  h ^= h >> 15;
  uint32_t sum = 0;
  for (int l = 0; l < kLanes; l++) sum += h[l] * (2u * l + 1) * kFactor;
  return sum ^ sum >> 16;
}

// Numbers by hashes, in open addressing.
struct Table {
  struct Slot {
    uint32_t hash;
    int32_t number;  // -1: free
  };
  Slot* slots;
  size_t count;  // a power of two, at least twice the numbers

  static size_t slots_for(size_t numbers) {
    size_t count = 4;
    while (count < 2 * numbers) count *= 2;
    return count;
  }
  void clear() { memset(slots, -1, count * sizeof(Slot)); }

  // The number with this hash for which same(number) holds, else `number`, which is kept.
  template <class Same>
  int32_t find(uint32_t hash, int32_t number, Same same) {
    for (size_t at = hash & (count - 1);; at = (at + 1) & (count - 1)) {
      if (slots[at].number < 0) {
        slots[at] = {hash, number};
        return number;
      }
      if (slots[at].hash == hash && same(slots[at].number)) return slots[at].number;
    }
  }
};

struct Windows {
  const ConvShape& g;
  int wide;  // numbers in a row, with the padding's
  size_t pixels, outputs;
  Table table;        // of pixels, then of windows
  int32_t* numbers;   // [h + 2 pad][w + 2 pad]
  uint8_t* repeated;  // of a number: there is more than one; zero, the last, always is

  explicit Windows(const ConvShape& shape)
      : g(shape),
        wide(g.w + 2 * g.pad),
        pixels(static_cast<size_t>(g.h) * g.w),
        outputs(static_cast<size_t>(g.out_h()) * g.out_w()) {
    table.count = Table::slots_for((pixels > outputs ? pixels : outputs) + 1);
  }
  size_t places() const { return static_cast<size_t>(g.h + 2 * g.pad) * wide; }
  size_t bytes() const { return table.count * sizeof(Table::Slot) + 4 * places() + pixels + 1; }
  void take(void* memory) {
    table.slots = static_cast<Table::Slot*>(memory);
    numbers = reinterpret_cast<int32_t*>(table.slots + table.count);
    repeated = reinterpret_cast<uint8_t*>(numbers + places());
  }

  // Numbers the pixels of an image, zeros of the padding among them; false where none comes twice.
  bool number_pixels(const float* x, const float* zeros) {
    const int32_t zero = static_cast<int32_t>(pixels);
    auto at = [&](size_t p) { return p < pixels ? x + p * g.c : zeros; };
    table.clear();
    memset(repeated, 0, pixels);
    repeated[zero] = 1;
    for (size_t i = 0; i < places(); i++) numbers[i] = zero;
    table.find(hash_pixel(zeros, g.c), zero, [](int32_t) { return false; });
    bool any = false;
    for (int32_t p = 0; p < zero;) {
      int32_t* row = numbers + (g.pad + p / g.w) * wide + g.pad;
      for (int i = 0; i < g.w; i++, p++) {
        row[i] = table.find(hash_pixel(at(p), g.c), p, [&](int32_t other) {
          return memcmp(at(p), at(other), g.c * sizeof(float)) == 0;
        });
        if (row[i] != p) {
          repeated[row[i]] = 1;
          any = true;
        }
      }
    }
    return any;
  }

  // Gives outputs [oh,ow,k] of an image that of the first window which equals theirs.
  void settle(float* y) {
    table.clear();
    const int ow = g.out_w();
    auto window = [&](int32_t o) { return numbers + o / ow * wide + o % ow; };
    for (int32_t o = 0; o < static_cast<int32_t>(outputs); o++) {
      const int32_t* mine = window(o);
      uint32_t hash = 0;
      bool all = true;
      for (int t = 0; t < kTaps; t++) {
        const int32_t number = mine[t / 3 * wide + t % 3];
        all = all && repeated[number];
        hash = (hash ^ number) * kFactor;
      }
      if (!all) continue;
      const int32_t first = table.find(hash ^ hash >> 15, o, [&](int32_t other) {
        const int32_t* its = window(other);
        for (int t = 0; t < kTaps; t++) {
          if (its[t / 3 * wide + t % 3] != mine[t / 3 * wide + t % 3]) return false;
        }
        return true;
      });
      if (first != o) {
        memcpy(y + static_cast<size_t>(o) * g.k, y + static_cast<size_t>(first) * g.k,
               g.k * sizeof(float));
      }
    }
  }
};

void settle_windows(const ConvShape& g, const uint8_t* suspects, const float* x, float* y) {
  const size_t in = static_cast<size_t>(g.h) * g.w * g.c;
  const size_t out = static_cast<size_t>(g.out_h()) * g.out_w() * g.k;
  const size_t zeros = g.c * sizeof(float), bytes = zeros + Windows(g).bytes();
  int lacking = 0;  // threads without memory
#pragma omp parallel reduction(+ : lacking)
  {
    thread_local Scratch scratch;
    Windows windows(g);
#pragma omp for schedule(static)
    for (int n = 0; n < g.n; n++) {
      if (!suspects[n]) continue;
      void* memory = scratch.find(bytes);
      if (memory == nullptr) {
        lacking++;
        continue;
      }
      memset(memory, 0, zeros);
      windows.take(static_cast<char*>(memory) + zeros);
      if (windows.number_pixels(x + n * in, static_cast<float*>(memory)))
        windows.settle(y + n * out);
    }
  }
  if (lacking) gocp::out_of_memory(bytes);
}

}  // namespace GOCP_NAMESPACE
