// Inverted dropout, its own adjoint: y_i = x_i / (1 - rate) where u_i >= rate, else 0.
//
// u_i is the number in [0, 1) of word i mod 4 of Philox block (step 2^32 + i / 4) of the stream. No
// mask is stored: a step's forward and backward pass, both planes of dual numbers and a replay draw
// the same. *step lies on the device, so a recorded step draws anew when it is replayed.
// Source: N. Srivastava et al., JMLR 15, 2014; inverted as in PyTorch.
// Bytes: 8 n a plane. Operations: 25 n for the draws. y may be x.
#include "philox.cuh"

// scale is 1 / (1 - rate). Either plane may be absent.
KERNEL dropout(int64_t n, int64_t seed, int64_t stream, const uint64_t* step, float rate,
               float scale, const float* x, const float* xt, float* y, float* yt) {
  uint64_t first = *step << 32;
  block::each((n + 3) / 4, [&](int64_t b) {
    philox::Words r = philox::words(static_cast<uint64_t>(seed), static_cast<uint64_t>(stream),
                                    first | static_cast<uint64_t>(b));
    for (int j = 0; j < 4; j++) {
      int64_t i = 4 * b + j;
      bool kept = philox::uniform(r.w[j]) >= rate;
      if (y && i < n) y[i] = kept ? scale * x[i] : 0.0f;
      if (yt && i < n) yt[i] = kept ? scale * xt[i] : 0.0f;
    }
  });
}
