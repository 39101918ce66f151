// Device memory of the host engine: 256-byte aligned, counted, and in checked mode guarded.
//
// Checked mode puts kGuard bytes before and after every allocation, fills new memory and guards
// with NaNs (as float32 and as float64, so that a read of either shows), and keeps freed memory,
// filled with another NaN, out of use for a while. Guards are compared after every launch that was
// given the allocation, when a stream is synchronised, and when it is freed.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <deque>
#include <map>
#include <mutex>
#include <string>

#include "engine.h"

namespace gocp {

struct Block {
  char* raw;         // what malloc gave
  char* data;        // what the caller has
  size_t bytes;      // asked for
  size_t before;     // guard bytes in front of data
  size_t after;      // and behind data + bytes
  unsigned long id;  // counts allocations from 1
};

namespace {

constexpr size_t kAlign = 256;
constexpr size_t kGuard = 1024;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kQuarantine = size_t{256} << 20;
// Every one is a NaN as a float32 and, twice, as a float64.
constexpr uint32_t kNew = 0xffffffff;
constexpr uint32_t kGuarded = 0xfffac0de;
constexpr uint32_t kFreed = 0xfff9dead;

struct Memory {
  std::mutex mu;
  std::map<uintptr_t, Block*> live;
  std::map<uintptr_t, size_t> pinned;
  std::deque<Block*> quarantine;
  size_t quarantined = 0;
  size_t in_use = 0;
  unsigned long count = 0;
};

Memory& memory() {
  static Memory* m = new Memory;  // never destroyed: executor threads may outlive main
  return *m;
}

uintptr_t address(const void* p) { return reinterpret_cast<uintptr_t>(p); }

// The pattern's byte at an address, so that it is the same however the range is cut.
char pattern_byte(uint32_t word, const char* p) {
  return static_cast<char>(word >> (8 * (address(p) % 4)));
}

void fill(char* p, size_t bytes, uint32_t word) {
  char* const end = p + bytes;
  for (; p < end && address(p) % 4 != 0; p++) *p = pattern_byte(word, p);
  for (; p + 4 <= end; p += 4) memcpy(p, &word, 4);
  for (; p < end; p++) *p = pattern_byte(word, p);
}

// Where the range first differs from the pattern; null if nowhere.
const char* first_change(const char* p, size_t bytes, uint32_t word) {
  const char* const end = p + bytes;
  while (p < end) {
    if (address(p) % 4 == 0 && p + 4 <= end) {
      uint32_t have;
      memcpy(&have, p, 4);
      if (have == word) {
        p += 4;
        continue;
      }
    }
    if (*p != pattern_byte(word, p)) return p;
    p++;
  }
  return nullptr;
}

Block* find(uintptr_t p) {
  auto& live = memory().live;
  auto it = live.upper_bound(p);
  if (it == live.begin()) return nullptr;
  Block* b = std::prev(it)->second;
  return p <= address(b->data) + b->bytes ? b : nullptr;
}

CUresult check_guards(const Block* b, const char* what) {
  if (const char* p = first_change(b->data - b->before, b->before, kGuarded)) {
    return fail(CUDA_ERROR_ILLEGAL_ADDRESS,
                "%s: wrote %zu bytes before the start of a buffer of %zu bytes (allocation %lu)",
                what, static_cast<size_t>(b->data - p), b->bytes, b->id);
  }
  if (const char* p = first_change(b->data + b->bytes, b->after, kGuarded)) {
    return fail(CUDA_ERROR_ILLEGAL_ADDRESS,
                "%s: wrote past the end of a buffer of %zu bytes, at byte %zu (allocation %lu)",
                what, b->bytes, static_cast<size_t>(p - b->data), b->id);
  }
  return CUDA_SUCCESS;
}

CUresult check_freed(const Block* b, size_t from, size_t bytes, const char* what) {
  if (const char* p = first_change(b->data + from, bytes, kFreed)) {
    return fail(CUDA_ERROR_ILLEGAL_ADDRESS,
                "%s: a buffer of %zu bytes was written after it was freed, at byte %zu "
                "(allocation %lu)",
                what, b->bytes, static_cast<size_t>(p - b->data), b->id);
  }
  return CUDA_SUCCESS;
}

size_t read_size(const char* path) {
  FILE* f = fopen(path, "re");
  if (f == nullptr) return SIZE_MAX;
  unsigned long long n = 0;
  const bool number = fscanf(f, "%llu", &n) == 1;  // cgroup says "max" for no limit
  fclose(f);
  return number ? static_cast<size_t>(n) : SIZE_MAX;
}

// What a control group's memory.stat says of files that nobody has read for a while, which are
// given back when memory is wanted: they count as used, and after much reading they are nearly all
// of it.
size_t read_inactive(const char* path) {
  FILE* f = fopen(path, "re");
  if (f == nullptr) return 0;
  char line[128];
  unsigned long long n = 0, group = 0, all = 0;
  while (fgets(line, sizeof line, f) != nullptr) {
    if (sscanf(line, "inactive_file %llu", &n) == 1) group = n;
    if (sscanf(line, "total_inactive_file %llu", &n) == 1) all = n;  // version 1: with its children
  }
  fclose(f);
  return static_cast<size_t>(all > group ? all : group);
}

}  // namespace

bool checked() {
  static const bool on = [] {
    const char* v = getenv("GOCP_CHECK");
    return v != nullptr && strcmp(v, "1") == 0;
  }();
  return on;
}

void mem_info(size_t* available, size_t* total) {
  *available = *total = 0;
  if (FILE* f = fopen("/proc/meminfo", "re")) {
    char line[128];
    unsigned long long kib;
    while (fgets(line, sizeof line, f) != nullptr) {
      if (sscanf(line, "MemTotal: %llu", &kib) == 1) *total = kib << 10;
      if (sscanf(line, "MemAvailable: %llu", &kib) == 1) *available = kib << 10;
    }
    fclose(f);
  }
  for (const char* dir : {"/sys/fs/cgroup/memory.", "/sys/fs/cgroup/memory/memory."}) {
    const bool v2 = strlen(dir) < 24;
    const size_t limit = read_size((std::string(dir) + (v2 ? "max" : "limit_in_bytes")).c_str());
    const size_t used = read_size((std::string(dir) + (v2 ? "current" : "usage_in_bytes")).c_str());
    if (limit >= *total || used == SIZE_MAX) continue;
    *total = limit;
    const size_t cache = read_inactive((std::string(dir) + "stat").c_str());
    const size_t held = used > cache ? used - cache : 0;
    const size_t left = held < limit ? limit - held : 0;
    if (left < *available) *available = left;
  }
}

size_t mem_in_use() {
  std::lock_guard<std::mutex> lock(memory().mu);
  return memory().in_use;
}

CUresult mem_alloc(CUdeviceptr* p, size_t bytes) {
  if (bytes == 0) return fail(CUDA_ERROR_INVALID_VALUE, "allocation of 0 bytes");
  // Linux lends memory it does not have, and kills the borrower later: say no while we can.
  if (bytes >= size_t{64} << 20) {
    size_t available, total;
    mem_info(&available, &total);
    if (total != 0 && bytes > available) {
      return fail(CUDA_ERROR_OUT_OF_MEMORY, "%zu bytes asked for, %zu available", bytes, available);
    }
  }
  const size_t guard = checked() ? kGuard : 0;
  const size_t align = guard == 0 && bytes >= 2 * kHugePage ? kHugePage : kAlign;
  void* raw = nullptr;
  if (posix_memalign(&raw, align, bytes + 2 * guard) != 0) {
    return fail(CUDA_ERROR_OUT_OF_MEMORY, "%zu bytes asked for", bytes);
  }
  if (align == kHugePage) madvise(raw, bytes, MADV_HUGEPAGE);
  char* data = static_cast<char*>(raw) + guard;
  if (guard != 0) {
    fill(data - guard, guard, kGuarded);
    fill(data, bytes, kNew);
    fill(data + bytes, guard, kGuarded);
  }
  Memory& m = memory();
  std::lock_guard<std::mutex> lock(m.mu);
  Block* b = new Block{static_cast<char*>(raw), data, bytes, guard, guard, ++m.count};
  m.live[address(data)] = b;
  m.in_use += bytes;
  *p = address(data);
  return CUDA_SUCCESS;
}

CUresult mem_retire(CUdeviceptr p, Block** block) {
  Memory& m = memory();
  std::lock_guard<std::mutex> lock(m.mu);
  auto it = m.live.find(p);
  if (it == m.live.end()) {
    return fail(CUDA_ERROR_INVALID_VALUE, "free of 0x%llx, which is not allocated", p);
  }
  *block = it->second;
  m.live.erase(it);
  return CUDA_SUCCESS;
}

CUresult mem_release(Block* block) {
  CUresult r = CUDA_SUCCESS;
  Memory& m = memory();
  std::lock_guard<std::mutex> lock(m.mu);
  m.in_use -= block->bytes;
  if (!checked()) {
    free(block->raw);
    delete block;
    return r;
  }
  r = check_guards(block, "free");
  fill(block->data, block->bytes, kFreed);
  m.quarantine.push_back(block);
  m.quarantined += block->bytes;
  while (m.quarantined > kQuarantine) {
    Block* old = m.quarantine.front();
    m.quarantine.pop_front();
    m.quarantined -= old->bytes;
    const CUresult late = check_freed(old, 0, old->bytes, "free");
    if (r == CUDA_SUCCESS) r = late;
    free(old->raw);
    delete old;
  }
  return r;
}

CUresult mem_alloc_host(void** p, size_t bytes) {
  if (bytes == 0) return fail(CUDA_ERROR_INVALID_VALUE, "pinned allocation of 0 bytes");
  if (posix_memalign(p, kAlign, bytes) != 0) {
    return fail(CUDA_ERROR_OUT_OF_MEMORY, "%zu bytes of pinned memory asked for", bytes);
  }
  std::lock_guard<std::mutex> lock(memory().mu);
  memory().pinned[address(*p)] = bytes;
  return CUDA_SUCCESS;
}

CUresult mem_free_host(void* p) {
  {
    std::lock_guard<std::mutex> lock(memory().mu);
    if (memory().pinned.erase(address(p)) == 0) {
      return fail(CUDA_ERROR_INVALID_VALUE, "free of host memory that is not pinned");
    }
  }
  free(p);
  return CUDA_SUCCESS;
}

bool mem_is_pinned(const void* p, size_t bytes) {
  std::lock_guard<std::mutex> lock(memory().mu);
  const auto& pinned = memory().pinned;
  auto it = pinned.upper_bound(address(p));
  if (it == pinned.begin()) return false;
  --it;
  return address(p) + bytes <= it->first + it->second;
}

CUresult mem_range(CUdeviceptr p, CUdeviceptr* base, size_t* bytes) {
  std::lock_guard<std::mutex> lock(memory().mu);
  const Block* b = find(p);
  if (b == nullptr || p == address(b->data) + b->bytes) {
    return fail(CUDA_ERROR_INVALID_VALUE, "0x%llx is not allocated", p);
  }
  if (base != nullptr) *base = address(b->data);
  if (bytes != nullptr) *bytes = b->bytes;
  return CUDA_SUCCESS;
}

CUresult mem_inside(CUdeviceptr p, size_t bytes, const char* what) {
  std::lock_guard<std::mutex> lock(memory().mu);
  const Block* b = find(p);
  if (b == nullptr) {
    return fail(CUDA_ERROR_ILLEGAL_ADDRESS, "%s: 0x%llx is not in live device memory", what, p);
  }
  const size_t left = address(b->data) + b->bytes - p;
  if (bytes > left) {
    return fail(CUDA_ERROR_ILLEGAL_ADDRESS, "%s: %zu bytes at byte %zu of a buffer of %zu", what,
                bytes, b->bytes - left, b->bytes);
  }
  return CUDA_SUCCESS;
}

CUresult mem_check(CUdeviceptr p, const char* what) {
  std::lock_guard<std::mutex> lock(memory().mu);
  const Block* b = find(p);
  return b == nullptr ? CUDA_SUCCESS : check_guards(b, what);
}

CUresult mem_check_all(const char* what) {
  constexpr size_t kEnds = 4096;  // of a freed buffer; the rest is compared when it leaves
  Memory& m = memory();
  std::lock_guard<std::mutex> lock(m.mu);
  for (const auto& entry : m.live) {
    const CUresult r = check_guards(entry.second, what);
    if (r != CUDA_SUCCESS) return r;
  }
  for (const Block* b : m.quarantine) {
    const size_t n = b->bytes < kEnds ? b->bytes : kEnds;
    CUresult r = check_freed(b, 0, n, what);
    if (r == CUDA_SUCCESS) r = check_freed(b, b->bytes - n, n, what);
    if (r != CUDA_SUCCESS) return r;
  }
  return CUDA_SUCCESS;
}

}  // namespace gocp
