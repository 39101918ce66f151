// Copies of operands as conv.cuh wants them, for GPUs: [outer,rows,c] float32 to
// [outer,rows_out,c_out], zeros where there is nothing, in float32 or rounded to bfloat16 (nearest
// even), innermost extents and addresses multiples of 16 bytes. at and out_t are a second plane, or
// absent.
//
// A thread makes 16 bytes. Bytes: 4 in and 4 (f32) or 2 (bf16) out an element.
#include "block.cuh"
#ifdef __CUDACC__
namespace pack {

FN uint32_t pair(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
FN uint4 words(const float (&v)[4]) {
  return make_uint4(block::to_bits(v[0]), block::to_bits(v[1]), block::to_bits(v[2]),
                    block::to_bits(v[3]));
}
FN uint4 words(const float (&v)[8]) {
  return make_uint4(pair(v[0], v[1]), pair(v[2], v[3]), pair(v[4], v[5]), pair(v[6], v[7]));
}

// kChunk: elements of the copy in 16 bytes.
template <int kChunk>
FN void plane(const float* from, int outer, int rows, int rows_out, int c, int c_out, uint4* to) {
  int chunks = c_out / kChunk;
  bool vectors = c % kChunk == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0;
  block::each(static_cast<int64_t>(outer) * rows_out * chunks, [&](int64_t i) {
    int64_t row = i / chunks;
    int first = static_cast<int>(i - row * chunks) * kChunk;
    int64_t group = row / rows_out;
    row -= group * rows_out;
    float v[kChunk] = {};
    if (row < rows) {
      const float* at = from + (group * rows + row) * c + first;
      if (vectors) {
#pragma unroll
        for (int j = 0; j < kChunk; j += 4) {
          float4 four = *reinterpret_cast<const float4*>(at + j);
          v[j] = four.x, v[j + 1] = four.y, v[j + 2] = four.z, v[j + 3] = four.w;
        }
      } else {
#pragma unroll
        for (int j = 0; j < kChunk; j++)
          if (first + j < c) v[j] = at[j];
      }
    }
    to[i] = words(v);
  });
}

}  // namespace pack

extern "C" __global__ void conv_pack_f32(const float* a, const float* at, int outer, int rows,
                                         int rows_out, int c, int c_out, unsigned char* out,
                                         unsigned char* out_t) {
  if (a) pack::plane<4>(a, outer, rows, rows_out, c, c_out, reinterpret_cast<uint4*>(out));
  if (at) pack::plane<4>(at, outer, rows, rows_out, c, c_out, reinterpret_cast<uint4*>(out_t));
}
extern "C" __global__ void conv_pack_bf16(const float* a, const float* at, int outer, int rows,
                                          int rows_out, int c, int c_out, unsigned char* out,
                                          unsigned char* out_t) {
  if (a) pack::plane<8>(a, outer, rows, rows_out, c, c_out, reinterpret_cast<uint4*>(out));
  if (at) pack::plane<8>(at, outer, rows, rows_out, c, c_out, reinterpret_cast<uint4*>(out_t));
}
#endif
