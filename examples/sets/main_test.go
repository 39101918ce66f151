package main

import "fmt"

func Example() {
	logits, labels, k := invent(4000, 10)
	if err := show(logits, labels, k); err != nil {
		fmt.Println(err)
	}
	// Output:
	// hps   τ = 0.8013   coverage 0.891   mean size 1.27   empty 15
	// aps   τ = 0.6273   coverage 0.890   mean size 1.82   empty 98
	// raps  τ = 0.6296   coverage 0.888   mean size 1.79   empty 96
}
