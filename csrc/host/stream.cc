// Streams, events and recorded lists of the host engine.
//
// A stream is a ring of commands and one thread that runs them in order. A launch on a stream of
// width W > 1 is cut into at most W contiguous ranges of blocks, by OpenMP, so that kernels and
// oneDNN share one pool of threads; at width 1 there is no parallel region at all. After a
// failure a stream runs nothing more (records, waits and frees apart, or others would wait for
// ever) and every call on it returns the first error.
#include <omp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "engine.h"

struct CUevent_st {
  unsigned flags;
  std::atomic<int> refs{1};
  std::mutex mu;
  std::condition_variable done;
  uint64_t recorded = 0;   // calls of cuEventRecord
  uint64_t completed = 0;  // the last one that its stream has reached
  std::chrono::steady_clock::time_point at;
};

namespace gocp {

namespace {

thread_local char error_text[512];

struct Command {
  enum Kind : uint8_t { kLaunch, kCopy, kSet, kRecord, kWait, kRelease, kGraph, kWidth };
  Kind kind;
  unsigned value;  // blocks, the value set, or the width
  unsigned size;   // bytes of an element set
  const HostKernel* kernel;
  void* to;
  const void* from;
  size_t count;  // bytes copied, or elements set
  void* staged;  // a copy of the source, to be freed
  CUevent event;
  uint64_t ticket;  // which recording of the event
  Block* block;
  Graph* graph;
  uint64_t slots[kMaxParams];  // last: only a launch has them
};

Command make(Command::Kind kind) {
  Command c;
  memset(&c, 0, offsetof(Command, slots));
  c.kind = kind;
  return c;
}

size_t size_of(const Command& c) {
  return offsetof(Command, slots) +
         (c.kind == Command::kLaunch ? c.kernel->nparams * sizeof(uint64_t) : 0);
}

void event_unref(CUevent e) {
  if (--e->refs == 0) delete e;
}

void* host(CUdeviceptr p) { return reinterpret_cast<void*>(p); }

template <class T>
void set_elements(void* to, unsigned value, size_t count) {
  T* p = static_cast<T*>(to);
  for (size_t i = 0; i < count; i++) p[i] = static_cast<T>(value);
}

constexpr uint64_t kRing = 512;
constexpr size_t kStage = size_t{4} << 20;  // pageable copies up to this are staged, not awaited

}  // namespace

struct Graph {
  std::vector<Command> list;
  std::atomic<int> refs{1};
  bool invalid = false;
};

}  // namespace gocp

using gocp::Command;

struct CUstream_st {
  CUcontext context;
  unsigned flags;
  int priority;

  std::mutex mu;
  std::condition_variable work;   // for the executor: there is a command, or the end
  std::condition_variable moved;  // for callers: the executor has finished one
  int waiters = 0;                // callers waiting on moved
  bool sleeping = false;          // the executor waits on work
  bool closing = false;
  uint64_t head = 0, tail = 0;  // commands finished, commands enqueued
  std::unique_ptr<Command[]> ring{new Command[gocp::kRing]};
  gocp::Graph* capture = nullptr;
  CUresult error = CUDA_SUCCESS;
  std::string message;
  std::thread executor;

  // All below run on the executor alone.
  int width = 1;

  void loop();
  CUresult execute(const Command& c, bool failed);
  CUresult run_kernel(const Command& c);
};

namespace gocp {

namespace {

// Both with stream->mu held.
CUresult sticky(CUstream s) {
  if (s->error == CUDA_SUCCESS) return CUDA_SUCCESS;
  return fail(s->error, "%s", s->message.c_str());
}

CUresult wait_for(CUstream s, uint64_t ticket, std::unique_lock<std::mutex>* lock) {
  s->waiters++;
  s->moved.wait(*lock, [s, ticket] { return s->head >= ticket; });
  s->waiters--;
  return sticky(s);
}

CUresult not_recorded(CUstream s, const char* what) {
  s->capture->invalid = true;
  return fail(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "%s cannot be recorded", what);
}

// Appends a command to the stream, or to the list being recorded. await: until it has run.
CUresult enqueue(CUstream s, const Command& c, bool await = false) {
  std::unique_lock<std::mutex> lock(s->mu);
  // A free must reach its memory even on a stream that failed.
  if (s->error != CUDA_SUCCESS && c.kind != Command::kRelease) return sticky(s);
  if (s->capture != nullptr) {
    switch (c.kind) {
      case Command::kLaunch:
      case Command::kCopy:
      case Command::kSet:
        s->capture->list.emplace_back();
        memcpy(&s->capture->list.back(), &c, size_of(c));
        return CUDA_SUCCESS;
      default:
        return not_recorded(s, "this call");
    }
  }
  if (s->tail - s->head == kRing) wait_for(s, s->tail - kRing + 1, &lock);
  memcpy(&s->ring[s->tail % kRing], &c, size_of(c));
  const uint64_t ticket = ++s->tail;
  if (s->sleeping) s->work.notify_one();
  return await ? wait_for(s, ticket, &lock) : CUDA_SUCCESS;
}

bool capturing(CUstream s) {
  std::lock_guard<std::mutex> lock(s->mu);
  return s->capture != nullptr;
}

// Checked mode: every pointer of a launch is in live memory.
CUresult check_pointers(const Command& c) {
  for (int i = 0; i < c.kernel->nparams; i++) {
    if (c.kernel->kinds[i] != kPointer || c.slots[i] == 0) continue;
    char what[160];
    snprintf(what, sizeof what, "kernel %s, argument %d", c.kernel->name, i);
    const CUresult r = mem_inside(c.slots[i], 0, what);
    if (r != CUDA_SUCCESS) return r;
  }
  return CUDA_SUCCESS;
}

}  // namespace

const char* last_error() { return error_text; }

CUresult fail(CUresult code, const char* format, ...) {
  char text[sizeof error_text];  // the arguments may point into error_text
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  memcpy(error_text, text, sizeof text);
  return code;
}

}  // namespace gocp

CUresult CUstream_st::run_kernel(const Command& c) {
  const gocp::HostKernel& k = *c.kernel;
  void* params[gocp::kMaxParams];
  for (int i = 0; i < k.nparams; i++) params[i] = const_cast<uint64_t*>(&c.slots[i]);
  const gocp::Grid grid{c.value};
  const int blocks = static_cast<int>(c.value);
  if (k.whole != nullptr) {
    try {
      k.whole(grid, params, width);
    } catch (const std::exception& e) {
      return gocp::fail(CUDA_ERROR_LAUNCH_FAILED, "kernel %s: %s", k.name, e.what());
    }
  } else if (width == 1 || blocks == 1) {
    k.run(grid, params, 0, blocks);
  } else {
    const int parts = width < blocks ? width : blocks;
#pragma omp parallel num_threads(parts)
    {
      const int64_t n = omp_get_num_threads(), i = omp_get_thread_num();
      k.run(grid, params, static_cast<int>(blocks * i / n), static_cast<int>(blocks * (i + 1) / n));
    }
  }
  if (gocp::checked()) {
    char what[128];
    snprintf(what, sizeof what, "kernel %s", k.name);
    for (int i = 0; i < k.nparams; i++) {
      if (k.kinds[i] != gocp::kPointer || c.slots[i] == 0) continue;
      const CUresult r = gocp::mem_check(c.slots[i], what);
      if (r != CUDA_SUCCESS) return r;
    }
  }
  return CUDA_SUCCESS;
}

// failed: the stream has failed already, so only what others wait for is done.
CUresult CUstream_st::execute(const Command& c, bool failed) {
  switch (c.kind) {
    case Command::kLaunch:
      return failed ? CUDA_SUCCESS : run_kernel(c);
    case Command::kCopy:
      if (!failed) memmove(c.to, c.from, c.count);
      free(c.staged);
      return CUDA_SUCCESS;
    case Command::kSet:
      if (failed) return CUDA_SUCCESS;
      if (c.size == 1) memset(c.to, static_cast<int>(c.value), c.count);
      if (c.size == 2) gocp::set_elements<uint16_t>(c.to, c.value, c.count);
      if (c.size == 4) gocp::set_elements<uint32_t>(c.to, c.value, c.count);
      return CUDA_SUCCESS;
    case Command::kRecord: {
      std::unique_lock<std::mutex> lock(c.event->mu);
      if (c.ticket > c.event->completed) {
        c.event->completed = c.ticket;
        c.event->at = std::chrono::steady_clock::now();
      }
      lock.unlock();
      c.event->done.notify_all();
      gocp::event_unref(c.event);
      return CUDA_SUCCESS;
    }
    case Command::kWait: {
      std::unique_lock<std::mutex> lock(c.event->mu);
      c.event->done.wait(lock, [&c] { return c.event->completed >= c.ticket; });
      lock.unlock();
      gocp::event_unref(c.event);
      return CUDA_SUCCESS;
    }
    case Command::kRelease:
      return gocp::mem_release(c.block);
    case Command::kGraph: {
      CUresult r = CUDA_SUCCESS;
      for (const Command& each : c.graph->list) {
        r = execute(each, failed);
        if (r != CUDA_SUCCESS) break;
      }
      gocp::graph_release(c.graph);
      return r;
    }
    case Command::kWidth:
      width = static_cast<int>(c.value);
      omp_set_num_threads(width);
      return CUDA_SUCCESS;
  }
  return CUDA_ERROR_UNKNOWN;
}

void CUstream_st::loop() {
  omp_set_dynamic(0);  // as many threads as asked for, whatever the load
  std::unique_lock<std::mutex> lock(mu);
  for (;;) {
    if (head == tail) {
      if (closing) return;
      sleeping = true;
      work.wait(lock, [this] { return head != tail || closing; });
      sleeping = false;
      continue;
    }
    const Command& c = ring[head % gocp::kRing];
    const bool failed = error != CUDA_SUCCESS;
    lock.unlock();
    const CUresult r = execute(c, failed);
    lock.lock();
    if (r != CUDA_SUCCESS && error == CUDA_SUCCESS) {
      error = r;
      message = gocp::last_error();
    }
    head++;
    if (waiters != 0) moved.notify_all();
  }
}

namespace gocp {

CUresult stream_create(CUcontext context, unsigned flags, int priority, CUstream* stream) {
  auto s = std::make_unique<CUstream_st>();
  s->context = context;
  s->flags = flags;
  s->priority = priority;
  // Go's signals (preemption, profiling) are for its own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  CUresult r = CUDA_SUCCESS;
  try {
    s->executor = std::thread(&CUstream_st::loop, s.get());
  } catch (const std::system_error& e) {
    r = fail(CUDA_ERROR_OUT_OF_MEMORY, "no thread for a stream: %s", e.what());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (r != CUDA_SUCCESS) return r;
  *stream = s.release();
  return stream_set_width(*stream, cores());
}

CUresult stream_destroy(CUstream stream) {
  if (stream->capture != nullptr) graph_release(stream->capture);
  {
    std::lock_guard<std::mutex> lock(stream->mu);
    stream->closing = true;
    stream->work.notify_one();
  }
  stream->executor.join();
  delete stream;
  return CUDA_SUCCESS;
}

CUresult stream_sync(CUstream stream) {
  std::unique_lock<std::mutex> lock(stream->mu);
  if (stream->capture != nullptr) return not_recorded(stream, "synchronisation");
  CUresult r = wait_for(stream, stream->tail, &lock);
  if (r == CUDA_SUCCESS && checked()) r = mem_check_all("synchronise");
  return r;
}

CUresult stream_query(CUstream stream) {
  std::lock_guard<std::mutex> lock(stream->mu);
  if (stream->capture != nullptr) return not_recorded(stream, "a query");
  if (stream->head != stream->tail) return CUDA_ERROR_NOT_READY;
  return sticky(stream);
}

bool stream_blocking(CUstream stream) { return (stream->flags & CU_STREAM_NON_BLOCKING) == 0; }
unsigned stream_flags(CUstream stream) { return stream->flags; }
int stream_priority(CUstream stream) { return stream->priority; }

CUresult stream_set_width(CUstream stream, int width) {
  if (width < 1) return fail(CUDA_ERROR_INVALID_VALUE, "a stream of width %d", width);
  Command c = make(Command::kWidth);
  c.value = static_cast<unsigned>(width);
  return enqueue(stream, c);
}

CUresult launch(CUstream stream, const HostKernel* kernel, unsigned blocks, void** params) {
  Command c = make(Command::kLaunch);
  c.kernel = kernel;
  c.value = blocks;
  for (int i = 0; i < kernel->nparams; i++) memcpy(&c.slots[i], params[i], sizeof(uint64_t));
  if (checked()) {
    const CUresult r = check_pointers(c);
    if (r != CUDA_SUCCESS) return r;
  }
  return enqueue(stream, c);
}

CUresult copy_to_device(CUstream stream, CUdeviceptr to, const void* from, size_t bytes) {
  if (bytes == 0) return CUDA_SUCCESS;
  CUresult r = mem_inside(to, bytes, "copy to the device");
  if (r != CUDA_SUCCESS) return r;
  Command c = make(Command::kCopy);
  c.to = host(to);
  c.from = from;
  c.count = bytes;
  if (mem_is_pinned(from, bytes)) return enqueue(stream, c);
  // The caller may reuse pageable memory as soon as this returns.
  if (capturing(stream)) {
    std::lock_guard<std::mutex> lock(stream->mu);
    return not_recorded(stream, "a copy from memory that is not pinned");
  }
  if (bytes > kStage) return enqueue(stream, c, true);
  c.staged = malloc(bytes);
  if (c.staged == nullptr) return fail(CUDA_ERROR_OUT_OF_MEMORY, "staging %zu bytes", bytes);
  memcpy(c.staged, from, bytes);
  c.from = c.staged;
  r = enqueue(stream, c);
  if (r != CUDA_SUCCESS) free(c.staged);
  return r;
}

CUresult copy_to_host(CUstream stream, void* to, CUdeviceptr from, size_t bytes) {
  if (bytes == 0) return CUDA_SUCCESS;
  const CUresult r = mem_inside(from, bytes, "copy to the host");
  if (r != CUDA_SUCCESS) return r;
  Command c = make(Command::kCopy);
  c.to = to;
  c.from = host(from);
  c.count = bytes;
  const bool pinned = mem_is_pinned(to, bytes);
  if (!pinned && capturing(stream)) {
    std::lock_guard<std::mutex> lock(stream->mu);
    return not_recorded(stream, "a copy to memory that is not pinned");
  }
  return enqueue(stream, c, !pinned);
}

CUresult copy_on_device(CUstream stream, CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  if (bytes == 0) return CUDA_SUCCESS;
  CUresult r = mem_inside(to, bytes, "copy on the device, to");
  if (r == CUDA_SUCCESS) r = mem_inside(from, bytes, "copy on the device, from");
  if (r != CUDA_SUCCESS) return r;
  Command c = make(Command::kCopy);
  c.to = host(to);
  c.from = host(from);
  c.count = bytes;
  return enqueue(stream, c);
}

CUresult set(CUstream stream, CUdeviceptr to, unsigned value, unsigned size, size_t count) {
  if (count == 0) return CUDA_SUCCESS;
  if (to % size != 0) return fail(CUDA_ERROR_INVALID_VALUE, "memset: 0x%llx is misaligned", to);
  const CUresult r = mem_inside(to, size * count, "memset");
  if (r != CUDA_SUCCESS) return r;
  Command c = make(Command::kSet);
  c.to = host(to);
  c.value = value;
  c.size = size;
  c.count = count;
  return enqueue(stream, c);
}

CUresult mem_free_after(CUdeviceptr p, CUstream stream) {
  if (p == 0) return CUDA_SUCCESS;
  if (capturing(stream)) {
    std::lock_guard<std::mutex> lock(stream->mu);
    return not_recorded(stream, "a free");
  }
  Command c = make(Command::kRelease);
  const CUresult r = mem_retire(p, &c.block);
  return r != CUDA_SUCCESS ? r : enqueue(stream, c);
}

CUresult event_create(CUevent* event, unsigned flags) {
  *event = new CUevent_st;
  (*event)->flags = flags;
  return CUDA_SUCCESS;
}

CUresult event_destroy(CUevent event) {
  event_unref(event);
  return CUDA_SUCCESS;
}

CUresult event_record(CUevent event, CUstream stream) {
  Command c = make(Command::kRecord);
  c.event = event;
  {
    std::lock_guard<std::mutex> lock(event->mu);
    c.ticket = ++event->recorded;
  }
  event->refs++;
  const CUresult r = enqueue(stream, c);
  if (r != CUDA_SUCCESS) {
    // Nobody will complete this recording: let nobody wait for it.
    {
      std::lock_guard<std::mutex> lock(event->mu);
      if (c.ticket > event->completed) event->completed = c.ticket;
    }
    event->done.notify_all();
    event_unref(event);
  }
  return r;
}

CUresult event_query(CUevent event) {
  std::lock_guard<std::mutex> lock(event->mu);
  return event->completed == event->recorded ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult event_sync(CUevent event) {
  std::unique_lock<std::mutex> lock(event->mu);
  const uint64_t ticket = event->recorded;
  event->done.wait(lock, [event, ticket] { return event->completed >= ticket; });
  return CUDA_SUCCESS;
}

CUresult event_elapsed(float* milliseconds, CUevent start, CUevent end) {
  std::chrono::steady_clock::time_point at[2];
  int i = 0;
  for (CUevent e : {start, end}) {
    std::lock_guard<std::mutex> lock(e->mu);
    if (e->recorded == 0) return fail(CUDA_ERROR_INVALID_HANDLE, "an event was never recorded");
    if ((e->flags & CU_EVENT_DISABLE_TIMING) != 0) {
      return fail(CUDA_ERROR_INVALID_HANDLE, "an event without timing");
    }
    if (e->completed != e->recorded) return CUDA_ERROR_NOT_READY;
    at[i++] = e->at;
  }
  *milliseconds = std::chrono::duration<float, std::milli>(at[1] - at[0]).count();
  return CUDA_SUCCESS;
}

CUresult stream_wait_event(CUstream stream, CUevent event) {
  if (capturing(stream)) {
    std::lock_guard<std::mutex> lock(stream->mu);
    return not_recorded(stream, "a wait for an event");
  }
  Command c = make(Command::kWait);
  {
    std::lock_guard<std::mutex> lock(event->mu);
    if (event->recorded == event->completed) return CUDA_SUCCESS;
    c.ticket = event->recorded;
  }
  c.event = event;
  event->refs++;
  const CUresult r = enqueue(stream, c);
  if (r != CUDA_SUCCESS) event_unref(event);
  return r;
}

CUresult capture_begin(CUstream stream) {
  std::lock_guard<std::mutex> lock(stream->mu);
  if (stream->error != CUDA_SUCCESS) return sticky(stream);
  if (stream->capture != nullptr) {
    return fail(CUDA_ERROR_ILLEGAL_STATE, "the stream is being recorded already");
  }
  stream->capture = new Graph;
  return CUDA_SUCCESS;
}

CUresult capture_end(CUstream stream, Graph** graph) {
  std::lock_guard<std::mutex> lock(stream->mu);
  Graph* g = stream->capture;
  stream->capture = nullptr;
  if (g == nullptr) return fail(CUDA_ERROR_ILLEGAL_STATE, "the stream is not being recorded");
  if (g->invalid) {
    graph_release(g);
    // What could not be recorded has said so; keep those words.
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  }
  *graph = g;
  return CUDA_SUCCESS;
}

CUresult graph_launch(Graph* graph, CUstream stream) {
  if (checked()) {
    for (const Command& c : graph->list) {
      if (c.kind != Command::kLaunch) continue;
      const CUresult r = check_pointers(c);
      if (r != CUDA_SUCCESS) return r;
    }
  }
  Command c = make(Command::kGraph);
  c.graph = graph;
  graph->refs++;
  const CUresult r = enqueue(stream, c);
  if (r != CUDA_SUCCESS) graph_release(graph);
  return r;
}

void graph_release(Graph* graph) {
  if (--graph->refs == 0) delete graph;
}

}  // namespace gocp
