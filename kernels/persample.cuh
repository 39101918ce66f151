// When the ghost form of a per-sample norm (persample.cu, conv_persample.cuh) has lost its figures.
//
//   total = sum_{t,s} <D_t, D_s> <P_t, P_s>  =  |sum_t D_t' P_t|^2
//
// Its terms may cancel: with one patch P at every position, total is |P|^2 |sum_t D_t|^2, however
// large the D_t are. Products and sums round by some u = 2^-24 of |D_t| |D_s| |P_t| |P_s|, so
//
//   error <= c u bound,   bound = (sum_t |D_t| |P_t|)^2 >= |total|   (Cauchy-Schwarz)
//
// with c of 2 at most in what was tried (sums of tiles are double), mostly far less. bound costs
// nothing: |D_t|^2 and |P_t|^2 are the diagonals of what is multiplied anyway. Positions that point
// anywhere give total = bound / T. Where total is below a quarter of that, the gradient is formed
// instead, whose roundings are some u sqrt(bound), so that total is off by u sqrt(bound / total) of
// itself and not by u bound / total. Elsewhere it is off by at most 4 T c u.
#pragma once
#include "block.cuh"

namespace persample {

// The sum, and the root of its bound; or a part of both.
struct Total {
  double sum, root;
};
FN Total add(Total a, Total b) { return {a.sum + b.sum, a.root + b.root}; }

FN bool cancels(Total total, int positions) {
  return 4.0 * positions * total.sum < total.root * total.root;
}

}  // namespace persample
