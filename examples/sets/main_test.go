package main

import "fmt"

func Example() {
	logits, labels, k := invent(4000, 10)
	if err := show(logits, labels, k); err != nil {
		fmt.Println(err)
	}
	// Output:
	// hps   τ = 0.8013   coverage 0.891   mean size 1.27   empty 15
	// aps   τ = 0.6259   coverage 0.894   mean size 1.82   empty 94
	// raps  τ = 0.6291   coverage 0.894   mean size 1.79   empty 91
}
