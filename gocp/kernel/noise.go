package kernel

import (
	"math"

	"github.com/gocp/gocp/gocp/device"
)

// UniformNoise draws delta[n] uniform in [−radius, radius): number i is rng.FillUniform's.
func UniformNoise(s *device.Stream, seed, stream uint64, radius float64, delta device.Ptr, n int) {
	const name = "UniformNoise"
	if !check(s, name, n) || n == 0 || !checkPresent(s, name, pointer{"delta", delta}) {
		return
	}
	s.Launch("noise_uniform", blocks(n, perBlock), threads, device.I64(n),
		device.I64(int(seed)), device.I64(int(stream)), device.F32(radius), device.P(delta))
}

// GaussianNoise draws delta[n] normal with the second moment of UniformNoise, radius²/3, cut to
// the ball of that radius.
func GaussianNoise(s *device.Stream, seed, stream uint64, radius float64, delta device.Ptr, n int) {
	NormalNoise(s, seed, stream, radius/math.Sqrt(3), radius, delta, n)
}

// NormalNoise draws delta[n] normal with standard deviation sigma, cut to [−radius, radius]; an
// infinite radius cuts nothing, and number i is then rng.FillNormal's.
func NormalNoise(s *device.Stream, seed, stream uint64, sigma, radius float64, delta device.Ptr, n int) {
	const name = "NormalNoise"
	if !check(s, name, n) || n == 0 || !checkPresent(s, name, pointer{"delta", delta}) {
		return
	}
	s.Launch("noise_normal", blocks(n, perBlock), threads, device.I64(n),
		device.I64(int(seed)), device.I64(int(stream)), device.F32(sigma), device.F32(radius), device.P(delta))
}
