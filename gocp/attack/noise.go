package attack

import (
	"math"

	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/usage"
)

// Noise controls: the same images as an attack, moved by noise of the same size.
const (
	MethodRandUn    = "randun"    // δ ~ U[−ϵ, ϵ]
	MethodRandGa    = "randga"    // δ ~ N(0, ϵ²/3), the second moment of U[−ϵ, ϵ], clipped to the ball
	MethodRandLabel = "randlabel" // a label drawn from the others, and where there is a ball δ ~ U[−ϵ, ϵ]
)

// RandUn moves the bases by uniform noise.
func RandUn(bases Images, index []int, epsilon255 float64, seed uint64) (*Poisons, error) {
	return noise(MethodRandUn, bases, index, epsilon255, seed, func(eps float64, d []float32) {
		rng.FillUniform(seed, rng.Stream(MethodRandUn), float32(eps), d)
	})
}

// RandGa moves the bases by Gaussian noise.
func RandGa(bases Images, index []int, epsilon255 float64, seed uint64) (*Poisons, error) {
	return noise(MethodRandGa, bases, index, epsilon255, seed, func(eps float64, d []float32) {
		rng.FillNormal(seed, rng.Stream(MethodRandGa), float32(eps/math.Sqrt(3)), d)
	})
}

// RandLabel gives the bases, of classes 0 to k−1, labels drawn from the others, and where there is a ball uniform noise.
func RandLabel(bases Images, index []int, k int, epsilon255 float64, seed uint64) (*Poisons, error) {
	if k < 2 {
		return nil, usage.Errorf("one class has no other label")
	}
	p, err := RandUn(bases, index, epsilon255, seed)
	if err != nil {
		return nil, err
	}
	p.Method = MethodRandLabel
	src := rng.New(seed, rng.Stream(MethodRandLabel))
	for _, y := range bases.Labels {
		to := int32(src.Intn(k - 1))
		if to >= y {
			to++
		}
		p.Turned = append(p.Turned, to)
	}
	return p, p.check()
}

func noise(method string, bases Images, index []int, epsilon255 float64, seed uint64, fill func(eps float64, d []float32)) (*Poisons, error) {
	if err := bases.check("bases of " + method); err != nil {
		return nil, err
	}
	d := make([]float32, len(bases.Pixels))
	fill(epsilon255/255, d)
	p := &Poisons{Method: method, Epsilon255: epsilon255, Seed: seed, Bases: index, Before: bases, After: make([]uint8, len(d))}
	quantise(p.After, bases.Pixels, d, epsilon255)
	return p, p.check()
}
