package rng_test

import (
	"fmt"

	"github.com/gocp/gocp/gocp/rng"
)

func ExampleSource() {
	const seed = 1
	victims := rng.New(seed, rng.Stream("victim", 3))
	fmt.Println(victims.Perm(5), victims.Intn(10))
	// The same address, the same draws.
	victims.Seek(0)
	fmt.Println(victims.Perm(5), victims.Intn(10))
	// Output:
	// [0 1 3 2 4] 4
	// [0 1 3 2 4] 4
}
