package kernel

import "github.com/gocp/gocp/gocp/device"

// SGD is a step of PyTorch's SGD on theta[n]: d = gradScale·grad + weightDecay·θ,
// m ← mu·m + d, θ ← θ − lr·m, with nesterov θ ← θ − lr·(d + mu·m). lr is a float32 on the device,
// so a recorded step follows a schedule. momentum may be absent: then θ ← θ − lr·d.
func SGD(s *device.Stream, theta, grad, momentum, lr device.Ptr, mu, weightDecay, gradScale float64, nesterov bool, n int) {
	const name = "SGD"
	if !check(s, name, n) || n == 0 || !checkPresent(s, name,
		pointer{"theta", theta}, pointer{"grad", grad}, pointer{"lr", lr}) {
		return
	}
	s.Launch("sgd", blocks(n, perBlock), threads, device.I64(n), device.P(theta), device.P(grad),
		device.P(momentum), device.P(lr), device.F32(mu), device.F32(weightDecay), device.F32(gradScale), device.I32(boolean(nesterov)))
}

// SignAdam is a step of Adam on the signs of grad[n], downhill, and a projection of delta[n] on
// ‖δ‖_∞ ≤ radius and, unless base is absent, base + δ ∈ [0, 1]. m and v are Adam's moments, zero
// before the first step; step is the uint64 number of the step, from 1, and lr a float32, both on
// the device.
func SignAdam(s *device.Stream, delta, grad, m, v, base, step, lr device.Ptr, beta1, beta2, eps, radius float64, n int) {
	const name = "SignAdam"
	if !check(s, name, n) || n == 0 || !checkPresent(s, name, pointer{"delta", delta}, pointer{"grad", grad},
		pointer{"m", m}, pointer{"v", v}, pointer{"step", step}, pointer{"lr", lr}) {
		return
	}
	s.Launch("sign_adam", blocks(n, perBlock), threads, device.I64(n), device.P(delta), device.P(grad),
		device.P(m), device.P(v), device.P(base), device.P(step), device.P(lr),
		device.F32(beta1), device.F32(beta2), device.F32(eps), device.F32(radius))
}

// Quantize8 moves delta[n] so that base + δ is on the grid of k/255, inside the ball ‖δ‖_∞ ≤
// radius and inside [0, 1]: the nearest such point to where it was.
func Quantize8(s *device.Stream, base, delta device.Ptr, radius float64, n int) {
	const name = "Quantize8"
	if !check(s, name, n) || n == 0 || !checkPresent(s, name, pointer{"base", base}, pointer{"delta", delta}) {
		return
	}
	s.Launch("quantize8", blocks(n, perBlock), threads, device.I64(n),
		device.P(base), device.P(delta), device.F32(radius))
}

// Increment adds 1 to the uint64 at step.
func Increment(s *device.Stream, step device.Ptr) {
	const name = "Increment"
	if !check(s, name) || !checkPresent(s, name, pointer{"step", step}) {
		return
	}
	s.Launch("increment", 1, 32, device.P(step))
}
