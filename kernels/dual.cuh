// Dual numbers a + κb, κ² = 0, and the views through which kernels see tensors in float or dual.
//
// A dual tensor is two planes of floats, primal p and tangent t. Reading through in<dual>: an
// absent (null) plane is zero. Writing through out<dual>: an absent plane is not stored, so a
// kernel given only the tangent plane replays a pass whose primals are already known.
//
// A body is a template over T in {float, dual}. Comparisons look at the primal alone.
#pragma once
#include "math.cuh"

struct dual {
  float a, b;
  dual() = default;
  FN constexpr dual(float primal) : a(primal), b(0) {}
  FN constexpr dual(float primal, float tangent) : a(primal), b(tangent) {}
};

FN dual operator-(dual x) { return {-x.a, -x.b}; }
FN dual operator+(dual x, dual y) { return {x.a + y.a, x.b + y.b}; }
FN dual operator+(dual x, float y) { return {x.a + y, x.b}; }
FN dual operator+(float x, dual y) { return {x + y.a, y.b}; }
FN dual operator-(dual x, dual y) { return {x.a - y.a, x.b - y.b}; }
FN dual operator-(dual x, float y) { return {x.a - y, x.b}; }
FN dual operator-(float x, dual y) { return {x - y.a, -y.b}; }
FN dual operator*(dual x, dual y) { return {x.a * y.a, x.a * y.b + x.b * y.a}; }
FN dual operator*(dual x, float y) { return {x.a * y, x.b * y}; }
FN dual operator*(float x, dual y) { return {x * y.a, x * y.b}; }
FN dual operator/(dual x, dual y) {
  float q = x.a / y.a;
  return {q, (x.b - q * y.b) / y.a};
}
FN dual operator/(dual x, float y) { return {x.a / y, x.b / y}; }
FN dual operator/(float x, dual y) {
  float q = x / y.a;
  return {q, -q * y.b / y.a};
}
FN dual& operator+=(dual& x, dual y) { return x = x + y; }
FN dual& operator-=(dual& x, dual y) { return x = x - y; }
FN dual& operator*=(dual& x, dual y) { return x = x * y; }

FN bool operator<(dual x, dual y) { return x.a < y.a; }
FN bool operator>(dual x, dual y) { return x.a > y.a; }
FN bool operator<=(dual x, dual y) { return x.a <= y.a; }
FN bool operator>=(dual x, dual y) { return x.a >= y.a; }

FN float primal(float x) { return x; }
FN float primal(dual x) { return x.a; }

// The planes of a value in scratch memory and in reductions: primal, then tangent `step` further
// on.
template <class T>
constexpr int kPlanes = sizeof(T) / sizeof(float);

FN void put(float* to, float x) { to[0] = x; }
FN void put(float* to, dual x) {
  to[0] = x.a;
  to[1] = x.b;
}

template <class T>
FN T get(const float* from, int64_t step = 1);
template <>
FN float get<float>(const float* from, int64_t) {
  return from[0];
}
template <>
FN dual get<dual>(const float* from, int64_t step) {
  return {from[0], from[step]};
}

namespace math {
FN dual select(bool c, dual x, dual y) { return {c ? x.a : y.a, c ? x.b : y.b}; }
FN dual keep(bool c, dual x) { return {keep(c, x.a), keep(c, x.b)}; }
FN dual either(dual x, dual y) { return {either(x.a, y.a), either(x.b, y.b)}; }
FN dual abs(dual x) { return {abs(x.a), x.a < 0 ? -x.b : x.b}; }
FN dual max(dual x, dual y) { return select(x.a < y.a, y, x); }
FN dual min(dual x, dual y) { return select(y.a < x.a, y, x); }
FN dual sqrt(dual x) {
  float r = sqrt(x.a);
  return {r, 0.5f * x.b / r};
}
FN dual rsqrt(dual x) {
  float r = rsqrt(x.a);
  return {r, -0.5f * r * r * r * x.b};
}
FN dual exp(dual x) {
  float e = exp(x.a);
  return {e, e * x.b};
}
FN dual log(dual x) { return {log(x.a), x.b / x.a}; }
FN dual pow(dual x, float p) { return {pow(x.a, p), p == 0 ? 0.0f : p * pow(x.a, p - 1.0f) * x.b}; }
}  // namespace math

template <class T>
struct in;

template <>
struct in<float> {
  const float* p;
  FN explicit operator bool() const { return p; }
  FN in operator+(int64_t i) const { return {p + i}; }
  FN float operator[](int64_t i) const { return p[i]; }
};

template <>
struct in<dual> {
  const float* p;
  const float* t;
  FN explicit operator bool() const { return p || t; }
  FN in operator+(int64_t i) const { return {p ? p + i : p, t ? t + i : t}; }
  FN dual operator[](int64_t i) const { return {p ? p[i] : 0.0f, t ? t[i] : 0.0f}; }
};

template <class T>
struct out;

template <>
struct out<float> {
  float* p;
  FN explicit operator bool() const { return p; }
  FN out operator+(int64_t i) const { return {p + i}; }
  FN void set(int64_t i, float x) const { p[i] = x; }
};

template <>
struct out<dual> {
  float* p;
  float* t;
  FN explicit operator bool() const { return p || t; }
  FN out operator+(int64_t i) const { return {p ? p + i : p, t ? t + i : t}; }
  FN void set(int64_t i, dual x) const {
    if (p) p[i] = x.a;
    if (t) t[i] = x.b;
  }
};

// Views of dual tensors whose planes are known to be there. On the host a test for an absent plane
// in an inner loop costs several times the arithmetic.
struct in_whole {
  const float* p;
  const float* t;
  FN in_whole operator+(int64_t i) const { return {p + i, t + i}; }
  FN dual operator[](int64_t i) const { return {p[i], t[i]}; }
};
struct out_whole {
  float* p;
  float* t;
  FN out_whole operator+(int64_t i) const { return {p + i, t + i}; }
  FN void set(int64_t i, dual x) const {
    p[i] = x.a;
    t[i] = x.b;
  }
};
struct out_tangent {
  float* t;
  FN out_tangent operator+(int64_t i) const { return {t + i}; }
  FN void set(int64_t i, dual x) const { t[i] = x.b; }
};

// A second result in the view that was chosen for the first; fits if they have the same planes.
FN out<float> like(out<float>, out<float> o) { return o; }
FN out<dual> like(out<dual>, out<dual> o) { return o; }
FN out_whole like(out_whole, out<dual> o) { return {o.p, o.t}; }
FN out_tangent like(out_tangent, out<dual> o) { return {o.t}; }
FN bool same_planes(out<float>, out<float>) { return true; }
FN bool same_planes(out<dual> x, out<dual> y) { return !x.p == !y.p && !x.t == !y.t; }

// f(to, from…), on the host with the views above where they fit.
template <class F, class... In>
FN void with_planes(F f, out<float> to, In... from) {
  f(to, from...);
}
template <class F, class... In>
FN void with_planes(F f, out<dual> to, In... from) {
  if constexpr (block::kHost) {
    if (to.t && ((from.p && from.t) && ...)) {
      if (to.p)
        f(out_whole{to.p, to.t}, in_whole{from.p, from.t}...);
      else
        f(out_tangent{to.t}, in_whole{from.p, from.t}...);
      return;
    }
  }
  f(to, from...);
}
