// Nonconformity scores of softmax probabilities p [n,k] and their gradients to the logits.
// "j before y": p_j > p_y, or p_j = p_y and j < y.
//
//   HPS    S(y) = 1 - p_y
//   APS    S(y) = sum_{j before y} p_j + u p_y
//   RAPS   APS + lambda max(0, rank(y) - k_reg),  rank(y) = 1 + #{j before y}
//
// u is one number a row (u_i) or, without them, the constant u0. Gradients hold the rank fixed:
//
//   dS/dp_j = -[j = y]  (HPS),   [j before y] + u [j = y]  (APS, RAPS)
//   dz_j = p_j (dp_j - sum_l p_l dp_l)                     (through softmax)
//
// Sources: Sadinle et al. 2019; Romano et al. 2020; Angelopoulos et al. 2021.
// One block takes a range of rows. Work: k^2 comparisons a row for all labels, k for one; the sums
// run over labels in order, so they are the same whatever the block.
#include "math.cuh"

namespace scores {

enum Kind { kHps = 0, kAps = 1, kRaps = 2 };

struct Form {
  int kind;
  float lambda;
  int kreg;
  const float* u;
  float u0;
  FN float draw(int64_t row) const { return u ? u[row] : u0; }
};

// Without branches, so that loops over it vectorise.
FN bool before(float pj, int j, float py, int y) {
  return static_cast<int>(pj > py) | (static_cast<int>(pj == py) & static_cast<int>(j < y));
}

// The score from the mass and the number of the labels before y.
FN float finish(const Form& form, float py, float mass, int ahead, float u) {
  if (form.kind == kHps) return 1.0f - py;
  int over = ahead + 1 - form.kreg;
  float s = mass + u * py;
  return form.kind == kRaps && over > 0 ? s + form.lambda * static_cast<float>(over) : s;
}

// Scores of kTile labels from y on. Host: a vector of labels; GPU: one label a thread.
constexpr int kTile = block::kHost ? 16 : 1;

FN void tile(const Form& form, int k, const float* p, int y, float u, float* out) {
  float py[kTile], mass[kTile];
  int ahead[kTile];
  for (int l = 0; l < kTile; l++) {
    py[l] = p[y + l < k ? y + l : k - 1];
    mass[l] = 0;
    ahead[l] = 0;
  }
  for (int j = 0; j < k; j++) {
    for (int l = 0; l < kTile; l++) {
      bool b = before(p[j], j, py[l], y + l);
      mass[l] += b ? p[j] : 0.0f;
      ahead[l] += b;
    }
  }
  for (int l = 0; l < kTile && y + l < k; l++)
    out[y + l] = finish(form, py[l], mass[l], ahead[l], u);
}

}  // namespace scores

KERNEL scores_all(int64_t n, int k, int kind, float lambda, int kreg, const float* u, float u0,
                  const float* p, float* out) {
  scores::Form form{kind, lambda, kreg, u, u0};
  block::Range r = block::range(n);
  int tiles = (k + scores::kTile - 1) / scores::kTile;
  for (int64_t i = r.lo; i < r.hi; i++) {
    float u = form.draw(i);
    LANES(t, tiles) { scores::tile(form, k, p + i * k, t * scores::kTile, u, out + i * k); }
  }
}

// Pair q is row rows[q] (q itself without rows) and label labels[q]; one outside p scores NaN.
KERNEL scores_pairs(int64_t m, int64_t n, int k, int kind, float lambda, int kreg, const float* u,
                    float u0, const float* p, const int* rows, const int* labels, float* out) {
  scores::Form form{kind, lambda, kreg, u, u0};
  block::each(m, [&](int64_t q) {
    int64_t row = rows ? rows[q] : q;
    int y = labels[q];
    if (row < 0 || row >= n || y < 0 || y >= k) {
      out[q] = math::not_a_number();
      return;
    }
    const float* pr = p + row * k;
    float mass = 0;
    int ahead = 0;
    for (int j = 0; j < k; j++) {
      bool b = scores::before(pr[j], j, pr[y], y);
      mass += b ? pr[j] : 0.0f;
      ahead += b;
    }
    out[q] = scores::finish(form, pr[y], mass, ahead, form.draw(row));
  });
}

// dz[n,k] from ds[m]; a row without a pair gets zeros. A block owns its rows and, when pairs name
// their rows, looks through all of them.
KERNEL scores_pairs_backward(int64_t m, int64_t n, int k, int kind, const float* u, float u0,
                             const float* p, const int* rows, const int* labels, const float* ds,
                             float* dz) {
  scores::Form form{kind, 0, 0, u, u0};
  block::Range r = block::range(n);
  for (int64_t i = r.lo; i < r.hi; i++) {
    const float* pi = p + i * k;
    float* di = dz + i * k;
    LANES(j, k) di[j] = 0;
    int64_t lo = rows ? 0 : (i < m ? i : m), hi = rows ? m : (i < m ? i + 1 : m);
    for (int64_t q = lo; q < hi; q++) {
      int y = labels[q];
      if ((rows && rows[q] != i) || y < 0 || y >= k) continue;
      float s = ds[q], own = kind == scores::kHps ? -s : s * form.draw(i);
      float ahead = kind == scores::kHps ? 0.0f : s;
      LANES(j, k) { di[j] += j == y ? own : (scores::before(pi[j], j, pi[y], y) ? ahead : 0.0f); }
    }
    block::sync();
    float mean = block::sum(k, [&](int64_t j) { return pi[j] * di[j]; });
    LANES(j, k) di[j] = pi[j] * (di[j] - mean);
  }
}
