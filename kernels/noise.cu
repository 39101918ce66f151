// Noise in a ball, the controls RandUn and RandGa and the start of every crafting run.
//
//   uniform   delta_i = radius (2 u_i - 1)                              in [-radius, radius)
//   normal    delta_i = min(max(sigma z_i, -radius), radius)
//
// u_i and z_i are the draws of gocp/rng's stream (seed, stream), element by element and bit by bit.
// One block takes a range of Philox blocks: 4 words make 4 uniform numbers or 2 normal ones.
// Bytes: 4 n written. Operations: about 25 n and 70 n.
#include "philox.cuh"

KERNEL noise_uniform(int64_t n, int64_t seed, int64_t stream, float radius, float* delta) {
  block::each((n + 3) / 4, [&](int64_t b) {
    philox::Words r = philox::words(static_cast<uint64_t>(seed), static_cast<uint64_t>(stream),
                                    static_cast<uint64_t>(b));
    for (int j = 0; j < 4; j++)
      if (4 * b + j < n) delta[4 * b + j] = radius * (2.0f * philox::uniform(r.w[j]) - 1.0f);
  });
}

KERNEL noise_normal(int64_t n, int64_t seed, int64_t stream, float sigma, float radius,
                    float* delta) {
  block::each((n + 1) / 2, [&](int64_t b) {
    philox::Words r = philox::words(static_cast<uint64_t>(seed), static_cast<uint64_t>(stream),
                                    static_cast<uint64_t>(b));
    for (int j = 0; j < 2; j++)
      if (2 * b + j < n) {
        float z = sigma * philox::normal(r.w[2 * j], r.w[2 * j + 1]);
        delta[2 * b + j] = math::min(math::max(z, -radius), radius);
      }
  });
}
