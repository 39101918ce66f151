package data_test

import (
	"fmt"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/data/cifar10sample"
)

// A known name or a path gives the splits; Split draws disjoint parts from one.
func Example() {
	src, err := data.Open(cifar10sample.Name)
	if err != nil {
		fmt.Println(err)
		return
	}
	train, err := src.Need("train")
	if err != nil {
		fmt.Println(err)
		return
	}
	parts, record, err := data.Split(train, data.Draw{Seed: 1, Balanced: true},
		data.Part{Name: "victim", N: 5000}, data.Part{Name: "auxiliary", N: 5000})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, p := range parts {
		fmt.Println(p.Name, p.Len(), p.Counts()[:3], record.Parts[i].SHA256 == p.SHA256)
	}
	// Output:
	// victim 5000 [500 500 500] true
	// auxiliary 5000 [500 500 500] true
}

// What is wrong is one sentence.
func ExampleOpen_unknown() {
	_, err := data.Open("cifar-11")
	fmt.Println(err)
	// Output:
	// "cifar-11" is neither a known data set nor a file or folder; the known ones are cifar10-sample, cifar10, cifar100, tiny-imagenet, mnist and fashion-mnist
}

func ExamplePoisons_Apply() {
	train, err := data.New("train", 1, 1, 1, []uint8{10, 20, 30}, []int32{0, 1, 0}, []string{"cat", "dog"})
	if err != nil {
		fmt.Println(err)
		return
	}
	poisoned, err := data.Poisons{Index: []int{1}, Images: []uint8{22}}.Apply(train)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(train.Images, poisoned.Images, poisoned.Labels)
	// Output: [10 20 30] [10 22 30] [0 1 0]
}
