// Package cifar10sample embeds a sample of real CIFAR-10 images, 12,000 for
// training and 2,000 for testing, the same number of every class. Importing it
// makes data.Open know the name "cifar10-sample"; a program that does not import
// it does not carry its 4.5 MB. README.md beside this file states the origin.
package cifar10sample

import (
	_ "embed"

	"github.com/gocp/gocp/gocp/data"
)

// Name is what data.Open calls the sample.
const Name = "cifar10-sample"

//go:embed sample.tar.gz
var archive []byte

func init() {
	data.Register(Name, "a sample of CIFAR-10, 12,000 + 2,000 images 32×32×3, 10 classes (Krizhevsky 2009)", Open)
}

// Open decodes the sample: splits train and test.
func Open() (*data.Source, error) {
	return data.ReadTar(Name, "the embedded sample", archive)
}
