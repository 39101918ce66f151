// The host engine: the driver interface over this machine's cores and memory.
//
// memory.cc   device memory, its count, and checked mode's guards
// stream.cc   streams (one executor thread each), events, recorded lists
// driver.cc   devices, contexts, modules and the functions of the driver's table
// kernels.cc  the kernels, compiled once for each instruction set
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "../driver/table.h"
#include "host.h"

namespace gocp {

void fill_table(gocp_table* table);

// The calling thread's last failure. fail records it and returns the code.
const char* last_error();
CUresult fail(CUresult code, const char* format, ...) __attribute__((format(printf, 2, 3)));

bool checked();
const char* isa();
int cores();
const HostKernel* kernel_at(int i);  // null past the last one

// ---- memory.cc

struct Block;  // one allocation

// Only a failed call says something; what it says is last_error().
CUresult mem_alloc(CUdeviceptr* p, size_t bytes);
// Takes an allocation out of the live ones: from here on, no new work may use it.
CUresult mem_retire(CUdeviceptr p, Block** block);
// Gives its memory back, after the last work that uses it.
CUresult mem_release(Block* block);
CUresult mem_alloc_host(void** p, size_t bytes);
CUresult mem_free_host(void* p);
bool mem_is_pinned(const void* p, size_t bytes);
CUresult mem_range(CUdeviceptr p, CUdeviceptr* base, size_t* bytes);
// Whether [p, p+bytes) is inside one live allocation; what names the use in the error.
CUresult mem_inside(CUdeviceptr p, size_t bytes, const char* what);
// Checked mode: that the guards of the allocation at p, or of all of them, are as they were.
CUresult mem_check(CUdeviceptr p, const char* what);
CUresult mem_check_all(const char* what);
size_t mem_in_use();
void mem_info(size_t* available, size_t* total);

// ---- stream.cc

struct Graph;  // a recorded list

CUresult stream_create(CUcontext context, unsigned flags, int priority, CUstream* stream);
CUresult stream_destroy(CUstream stream);  // waits for its work
CUresult stream_sync(CUstream stream);
CUresult stream_query(CUstream stream);
bool stream_blocking(CUstream stream);  // ordered with the context's default stream
unsigned stream_flags(CUstream stream);
int stream_priority(CUstream stream);
CUresult stream_set_width(CUstream stream, int width);

CUresult launch(CUstream stream, const HostKernel* kernel, unsigned blocks, void** params);
CUresult copy_to_device(CUstream stream, CUdeviceptr to, const void* from, size_t bytes);
CUresult copy_to_host(CUstream stream, void* to, CUdeviceptr from, size_t bytes);
CUresult copy_on_device(CUstream stream, CUdeviceptr to, CUdeviceptr from, size_t bytes);
// count elements of `size` bytes (1, 2 or 4)
CUresult set(CUstream stream, CUdeviceptr to, unsigned value, unsigned size, size_t count);
CUresult mem_free_after(CUdeviceptr p, CUstream stream);

CUresult event_create(CUevent* event, unsigned flags);
CUresult event_destroy(CUevent event);
CUresult event_record(CUevent event, CUstream stream);
CUresult event_query(CUevent event);
CUresult event_sync(CUevent event);
CUresult event_elapsed(float* milliseconds, CUevent start, CUevent end);
CUresult stream_wait_event(CUstream stream, CUevent event);

CUresult capture_begin(CUstream stream);
CUresult capture_end(CUstream stream, Graph** graph);
CUresult graph_launch(Graph* graph, CUstream stream);
void graph_release(Graph* graph);

}  // namespace gocp
