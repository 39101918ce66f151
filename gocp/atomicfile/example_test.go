package atomicfile_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/gocp/gocp/gocp/atomicfile"
)

// Work that fails half-way leaves the file as it was.
func ExampleWrite() {
	dir, err := os.MkdirTemp("", "atomicfile")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "result.json")
	for _, fail := range []error{nil, errors.New("interrupted")} {
		_ = atomicfile.Write(path, func(w io.Writer) error {
			fmt.Fprintf(w, "written with error: %v", fail)
			return fail
		})
	}
	content, err := os.ReadFile(path)
	fmt.Printf("%s, %v\n", content, err)
	// Output: written with error: <nil>, <nil>
}
