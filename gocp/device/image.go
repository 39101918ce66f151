package device

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gorgonia.org/cu"

	"github.com/gocp/gocp/csrc"
)

// An image is the code of the kernels: modules, each loaded when one of its kernels is first asked
// for.
type image struct {
	name    string
	header  ImageInfo
	modules []*module
	kernels map[string]*module // nil: there is one module, which knows its own
}

type module struct {
	name   string
	code   string
	cu     cu.Module
	loaded bool
}

// ImageInfo is what the header of a GPU image says (scripts/gpu.sh).
type ImageInfo struct {
	Nvcc          string `json:"nvcc"`          // the compiler's release
	Architectures []int  `json:"architectures"` // with code of their own, such as 90 for sm_90
	PTX           int    `json:"ptx"`           // what later ones are translated from
	Kernels       int    `json:"kernels"`
}

func (i ImageInfo) String() string {
	sm := make([]string, len(i.Architectures))
	for k, a := range i.Architectures {
		sm[k] = "sm_" + strconv.Itoa(a)
	}
	return fmt.Sprintf("%d kernels for %s, PTX for compute_%d and later, by nvcc %s", i.Kernels, strings.Join(sm, ", "), i.PTX, i.Nvcc)
}

// For says what of the image a device of that capability, such as 90, runs: the machine code of its own
// architecture or of an earlier one of the same major number, or else what its driver makes of the PTX.
func (i ImageInfo) For(capability int) string {
	best := i.own(capability)
	if best == 0 {
		return fmt.Sprintf("what the driver translates from PTX for compute_%d when a kernel is first used: that takes a while, and no code for sm_%d was looked at", i.PTX, capability)
	}
	return fmt.Sprintf("sm_%d's code", best)
}

// Translated reports whether a device of that capability runs nothing but what its driver makes of the PTX.
func (i ImageInfo) Translated(capability int) bool { return i.own(capability) == 0 }

// own is the architecture whose machine code a device runs, 0 if it runs none.
func (i ImageInfo) own(capability int) int {
	best := 0
	for _, a := range i.Architectures {
		if a/10 == capability/10 && a <= capability {
			best = max(best, a)
		}
	}
	return best
}

// Image describes the GPU code in this binary, and reports whether there is any.
func Image() (ImageInfo, bool) {
	data := csrc.Image()
	if len(data) == 0 {
		return ImageInfo{}, false
	}
	i, err := parseImage("", data)
	if err != nil {
		return ImageInfo{}, false
	}
	return i.header, true
}

const imageMagic = "gocp-gpu-image 1\n"

// parseImage reads an image of scripts/gpu.sh, or takes the data for one module.
func parseImage(name string, data []byte) (*image, error) {
	if len(data) == 0 {
		return &image{name: name}, nil // function says so when a kernel is asked for
	}
	if !bytes.HasPrefix(data, []byte(imageMagic)) {
		return whole(name, string(data)), nil
	}
	i := &image{name: name, kernels: map[string]*module{}}
	wrong := func(line string) error {
		return fmt.Errorf("device: %s: line %q of the header makes no sense", name, line)
	}
	rest, base := data[len(imageMagic):], 0
	for {
		text, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return nil, fmt.Errorf("device: %s: the header has no end", name)
		}
		line := string(text)
		if rest = after; line == "" {
			break
		}
		f := strings.Fields(line)
		numbers := make([]int, 0, len(f))
		for _, s := range f[1:] {
			if v, err := strconv.Atoi(s); err == nil && v >= 0 {
				numbers = append(numbers, v)
			}
		}
		switch {
		case f[0] == "base" && len(numbers) == 1:
			base = numbers[0]
		case f[0] == "nvcc" && len(f) == 2:
			i.header.Nvcc = f[1]
		case f[0] == "sm" && len(numbers) == len(f)-1:
			i.header.Architectures = numbers
		case f[0] == "ptx" && len(numbers) == 1:
			i.header.PTX = numbers[0]
		case f[0] == "module" && len(f) == 4 && len(numbers) == 2:
			from, size := base+numbers[0], numbers[1]
			if from > len(data) || size > len(data)-from {
				return nil, fmt.Errorf("device: %s: cut short: module %s ends at byte %d of %d", name, f[1], from+size, len(data))
			}
			i.modules = append(i.modules, &module{name: f[1], code: string(data[from : from+size])})
		case f[0] == "kernel" && len(f) == 2 && len(i.modules) > 0:
			i.kernels[f[1]] = i.modules[len(i.modules)-1]
			i.header.Kernels++
		default:
			return nil, wrong(line)
		}
	}
	return i, nil
}

// whole is an image of one module.
func whole(name, code string) *image {
	return &image{name: name, modules: []*module{{name: "kernels", code: code}}}
}

// function looks a kernel up. The context must be current.
func (i *image) function(kernel, device string) (cu.Function, error) {
	if len(i.modules) == 0 {
		return cu.Function{}, fmt.Errorf("kernel %s: this build carries no GPU code (make gpu builds it)", kernel)
	}
	m := i.modules[0]
	if i.kernels != nil {
		if m = i.kernels[kernel]; m == nil {
			return cu.Function{}, fmt.Errorf("kernel %s: no kernel of that name in %s", kernel, i.name)
		}
	}
	if !m.loaded {
		var err error
		if m.cu, err = cu.LoadData(m.code); err != nil {
			if errors.Is(err, cu.NoBinaryForGpu) {
				return cu.Function{}, fmt.Errorf("kernel %s: %s has no code for %s: %w", kernel, i.name, device, err)
			}
			if c, ok := codeOf(err); ok && c == csrc.UnsupportedPTX {
				return cu.Function{}, fmt.Errorf("kernel %s: %s is PTX of a later version than the driver of %s reads: %w", kernel, i.name, device, c)
			}
			return cu.Function{}, describe("load the "+m.name+" of "+i.name, err)
		}
		m.loaded = true
	}
	fn, err := m.cu.Function(kernel)
	if errors.Is(err, cu.NotFound) {
		return cu.Function{}, fmt.Errorf("kernel %s: no kernel of that name in %s", kernel, i.name)
	}
	if err != nil {
		return cu.Function{}, describe("look up kernel "+kernel, err)
	}
	return fn, nil
}

// unload unloads what was loaded. The context must be current.
func (i *image) unload() error {
	for _, m := range slices.Backward(i.modules) {
		if m.loaded {
			if err := m.cu.Unload(); err != nil {
				return describe("unload the "+m.name+" of "+i.name, err)
			}
			m.loaded = false
		}
	}
	return nil
}
