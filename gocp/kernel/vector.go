package kernel

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
)

const (
	perBlock = 16384 // elements of a vector that one block takes
	maxParts = 64    // parts of a reduction over a vector
)

// VectorBytes is the workspace that reductions over vectors ask for, of any length.
const VectorBytes = 8 * (maxParts + 2)

// pointer is an address with the name its launcher gives it.
type pointer struct {
	name string
	p    device.Ptr
}

// checkPresent fails unless every pointer is one.
func checkPresent(s *device.Stream, name string, pointers ...pointer) bool {
	for _, p := range pointers {
		if p.p == 0 {
			fail(s, name, "%s is absent", p.name)
			return false
		}
	}
	return true
}

// reduceVector launches a partial reduction over n elements and its combination into out.
func reduceVector(s *device.Stream, name, partial, combine string, n int, out device.Ptr, w *Workspace, args ...device.Arg) {
	work := w.take(s, name, VectorBytes)
	if work == 0 {
		return
	}
	grid := min(blocks(n, perBlock), maxParts)
	s.Launch(partial, grid, threads, append(append([]device.Arg{device.I64(n)}, args...), device.P(work))...)
	s.Launch(combine, 1, threads, device.I32(grid), device.P(work), device.P(out))
}

// Dot writes ⟨a, b⟩ of float32 vectors a[n], b[n] to the float64 at out. Products and sums are
// float64, in an order that depends on n alone.
func Dot(s *device.Stream, a, b device.Ptr, n int, out device.Ptr, w *Workspace) {
	const name = "Dot"
	if !check(s, name, n) || !checkPresent(s, name, pointer{"a", a}, pointer{"b", b}, pointer{"out", out}) {
		return
	}
	reduceVector(s, name, "vector_dot", "vector_combine_sum", n, out, w, device.P(a), device.P(b))
}

// Norm2 writes ‖a‖² to the float64 at out.
func Norm2(s *device.Stream, a device.Ptr, n int, out device.Ptr, w *Workspace) {
	Dot(s, a, a, n, out, w)
}

// MaxAbs writes max |aᵢ| to the float64 at out, 0 for n = 0. It passes over NaN.
func MaxAbs(s *device.Stream, a device.Ptr, n int, out device.Ptr, w *Workspace) {
	const name = "MaxAbs"
	if !check(s, name, n) || !checkPresent(s, name, pointer{"a", a}, pointer{"out", out}) {
		return
	}
	reduceVector(s, name, "vector_max", "vector_combine_max", n, out, w, device.P(a))
}

// PowSum writes Σ (|aᵢ| / scale)^q to the float64 at out; scale is a float64 on the device,
// and 1 where it is absent.
func PowSum(s *device.Stream, a device.Ptr, q float64, scale device.Ptr, n int, out device.Ptr, w *Workspace) {
	const name = "PowSum"
	if !check(s, name, n) || !checkPresent(s, name, pointer{"a", a}, pointer{"out", out}) {
		return
	}
	reduceVector(s, name, "vector_power", "vector_combine_sum", n, out, w,
		device.P(a), device.F32(q), device.P(scale))
}

// Coef is a coefficient: Value, times the float64 at At if there is one.
type Coef struct {
	Value float64
	At    device.Ptr
}

// Axpby computes y ← α x + β y. With β = 0 y is not read.
func Axpby(s *device.Stream, alpha Coef, x device.Ptr, beta Coef, y device.Ptr, n int) {
	const name = "Axpby"
	if !check(s, name, n) || n == 0 || !checkPresent(s, name, pointer{"x", x}, pointer{"y", y}) {
		return
	}
	s.Launch("vector_axpby", blocks(n, perBlock), threads, device.I64(n),
		device.F32(alpha.Value), device.P(alpha.At), device.P(x),
		device.F32(beta.Value), device.P(beta.At), device.P(y))
}

// Add computes y ← y + x, plane by plane: the gradient of what has several readers. An absent tangent
// of x adds nothing; with y.P absent only the tangent is computed.
func Add(s *device.Stream, x, y tensor.Tensor) {
	const name = "Add"
	n := y.Len()
	if s.Err() != nil || n == 0 || !checkTensors(s, name, operand{"x", x, n, false}, operand{"y", y, n, false}) {
		return
	}
	for _, plane := range [][2]device.Ptr{{x.P, y.P}, {x.T, y.T}} {
		if plane[0] != 0 && plane[1] != 0 {
			Axpby(s, Coef{Value: 1}, plane[0], Coef{Value: 1}, plane[1], n)
		}
	}
}

// Multiply computes out = x·y, element by element.
func Multiply(s *device.Stream, x, y, out tensor.Tensor) {
	const name = "Multiply"
	n := out.Len()
	if s.Err() != nil || n == 0 || !checkTensors(s, name,
		operand{"x", x, n, false}, operand{"y", y, n, false}, operand{"out", out, n, false}) {
		return
	}
	if out.T == 0 {
		s.Launch("vector_multiply_f32", blocks(n, perBlock), threads, device.I64(n), device.P(x.P), device.P(y.P), device.P(out.P))
		return
	}
	s.Launch("vector_multiply_dual", blocks(n, perBlock), threads, device.I64(n),
		device.P(x.P), device.P(x.T), device.P(y.P), device.P(y.T), device.P(out.P), device.P(out.T))
}

// CosineDirection writes Φ = ⟨u,g⟩ / (‖u‖‖g‖) to the float64 at phi and, unless v is
// absent, v[n] = ∂Φ/∂g = u/(‖u‖‖g‖) − Φ g/‖g‖². dots holds three float64: ⟨u,g⟩, ‖u‖²
// and ‖g‖². A zero vector makes both NaN. v may be g.
func CosineDirection(s *device.Stream, u, g, dots device.Ptr, n int, v, phi device.Ptr) {
	const name = "CosineDirection"
	if !check(s, name, n) || !checkPresent(s, name,
		pointer{"u", u}, pointer{"g", g}, pointer{"dots", dots}, pointer{"phi", phi}) {
		return
	}
	s.Launch("vector_cosine", blocks(n, perBlock), threads, device.I64(n),
		device.P(u), device.P(g), device.P(dots), device.P(v), device.P(phi))
}

// RowsDot computes outᵢ ← weight·⟨xᵢ, yᵢ⟩, plus outᵢ if add, over the rows of x[n,k] and
// y[n,k]; y = x gives squared norms.
func RowsDot(s *device.Stream, n, k int, weight float64, x, y device.Ptr, add bool, out device.Ptr) {
	const name = "RowsDot"
	if !check(s, name, n, k) || n == 0 || !checkPresent(s, name, pointer{"out", out}) ||
		k > 0 && !checkPresent(s, name, pointer{"x", x}, pointer{"y", y}) {
		return
	}
	s.Launch("vector_rows_dot", blocks(n, max(1, perBlock/max(k, 1))), threads, device.I64(n), device.I64(k),
		device.F32(weight), device.P(x), device.P(y), device.I32(flag(add)), device.P(out))
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
