// Scalar floating-point operations and the modifiers that wrap them (.ftz, .sat, .relu, rounding
// modes), as types so that the lane loops inline them. Every Op has static Apply(a[,b[,c]]).
#pragma once
#include <cfenv>
#include <cmath>

#include "isa/float_formats.h"

namespace ptxemu {

struct Add {
  template <class T>
  static T Apply(T a, T b) {
    return a + b;
  }
};
struct Sub {
  template <class T>
  static T Apply(T a, T b) {
    return a - b;
  }
};
struct Mul {
  template <class T>
  static T Apply(T a, T b) {
    return a * b;
  }
};
struct Fma {
  template <class T>
  static T Apply(T a, T b, T c) {
    return std::fma(a, b, c);
  }
};
// For 16-bit operands in double precision: exact product, sum rounded far below the result's
// precision.
struct MulAdd {
  template <class T>
  static T Apply(T a, T b, T c) {
    return a * b + c;
  }
};
struct FloatDiv {
  template <class T>
  static T Apply(T a, T b) {
    return a / b;
  }
};
struct FloatAbs {
  template <class T>
  static T Apply(T a) {
    return std::fabs(a);
  }
};
struct Negate {
  template <class T>
  static T Apply(T a) {
    return -a;
  }
};
struct CopySign {
  template <class T>
  static T Apply(T a, T b) {
    return std::copysign(b, a);
  }
};
struct Sqrt {
  template <class T>
  static T Apply(T a) {
    return std::sqrt(a);
  }
};
struct Rcp {
  template <class T>
  static T Apply(T a) {
    return T(1) / a;
  }
};

// The .approx functions are computed in double: more exact than hardware, never less.
struct Rsqrt {
  template <class T>
  static T Apply(T a) {
    return T(1.0 / std::sqrt(double(a)));
  }
};
struct Ex2 {
  template <class T>
  static T Apply(T a) {
    return T(std::exp2(double(a)));
  }
};
struct Lg2 {
  template <class T>
  static T Apply(T a) {
    return T(std::log2(double(a)));
  }
};
struct Sin {
  template <class T>
  static T Apply(T a) {
    return T(std::sin(double(a)));
  }
};
struct Cos {
  template <class T>
  static T Apply(T a) {
    return T(std::cos(double(a)));
  }
};
struct Tanh {
  template <class T>
  static T Apply(T a) {
    return T(std::tanh(double(a)));
  }
};

// min/max return the operand that is a number; -0 is below +0 (PTX ISA 9.7.3.11).
struct FloatMin {
  template <class T>
  static T Apply(T a, T b) {
    if (a != a) return b;
    if (b != b) return a;
    if (a == b) return std::signbit(a) ? a : b;
    return a < b ? a : b;
  }
};
struct FloatMax {
  template <class T>
  static T Apply(T a, T b) {
    if (a != a) return b;
    if (b != b) return a;
    if (a == b) return std::signbit(a) ? b : a;
    return a > b ? a : b;
  }
};

// min.NaN / max.NaN.
template <class Op>
struct PropagateNaN {
  template <class T>
  static T Apply(T a, T b) {
    return a != a || b != b ? T(NAN) : Op::Apply(a, b);
  }
};

template <class Op>
struct Ftz {
  template <class T, class... Ts>
  static T Apply(T a, Ts... rest) {
    return FlushSubnormal(Op::Apply(FlushSubnormal(a), FlushSubnormal(rest)...));
  }
};

template <class Op>
struct Saturate {  // to [0, 1]; NaN becomes 0
  template <class T, class... Ts>
  static T Apply(T a, Ts... rest) {
    T result = Op::Apply(a, rest...);
    return result > 0 ? (result < 1 ? result : T(1)) : T(0);
  }
};

template <class Op>
struct Relu {  // negative becomes 0; NaN stays
  template <class T, class... Ts>
  static T Apply(T a, Ts... rest) {
    T result = Op::Apply(a, rest...);
    return result > 0 || result != result ? result : T(0);
  }
};

// Computes under another rounding mode; volatile keeps the compiler from moving the arithmetic out.
template <int kMode, class Op>
struct Rounded {
  template <class T, class... Ts>
  static __attribute__((noinline)) T Apply(T a, Ts... rest) {
    return ApplyVolatile<T>(a, rest...);
  }

 private:
  template <class T, class... Ts>
  static T ApplyVolatile(volatile T a, volatile Ts... rest) {
    const int saved = fegetround();
    fesetround(kMode);
    volatile T result = Op::template Apply<T>(a, rest...);
    fesetround(saved);
    return result;
  }
};

// Runs Op in double on one (kLanes = 1) or two packed (kLanes = 2) 16-bit floats.
template <bool kBrain, int kLanes, class Op>
struct HalfOp {
  template <class T, class... Ts>
  static T Apply(T a, Ts... rest) {
    if (kLanes == 1) return One(a, rest...);
    return T(One(a & 0xFFFF, (rest & 0xFFFF)...) |
             (u32(One(u32(a) >> 16, (u32(rest) >> 16)...)) << 16));
  }

 private:
  static double Widen(u16 bits) { return Float16FamilyToFloat(kBrain, bits); }
  template <class... Ts>
  static u16 One(Ts... bits) {
    double result = Op::Apply(Widen(u16(bits))...);
    return kBrain ? DoubleToBf16(result) : DoubleToHalf(result);
  }
};

}  // namespace ptxemu
