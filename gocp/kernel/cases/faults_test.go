package cases_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// A fault is a deliberate mistake in the kernels' source: one edit, and the cases that find it.
type fault struct {
	name     string   // what is wrong
	file     string   // of kernels/: the one that is edited
	from, to string   // the edit; from occurs once
	unit     string   // of kernels/: those that are compiled and run together, file where empty
	breaks   string   // what then goes wrong on a device
	cases    []string // Name, or Name/precision
}

// The kernels that a convolution in TF32 launches.
const convUnit = "conv_tf32.cu conv_sum.cu conv_pack.cu conv_depthwise.cu"

// The kernels that the cases of activations launch.
const actUnit = "act.cu act_window.cu"

var faults = []fault{
	{
		name: "missing barrier between a reduction's writes and reads", file: "block.cuh", unit: "softmax.cu",
		from: "if ((rank() & 31) == 0) part[rank() >> 5] = v;\n  sync();", to: "if ((rank() & 31) == 0) part[rank() >> 5] = v;",
		breaks: "the first thread adds parts that other warps have not written", cases: []string{"Softmax", "SoftmaxXent"},
	},
	{
		name: "missing barrier before a reduction's result is read", file: "block.cuh", unit: "vector.cu",
		from: "part[32] = r;\n  }\n  sync();", to: "part[32] = r;\n  }",
		breaks: "warps take the result before it is there", cases: []string{"RowsDot"},
	},
	{
		name: "reduction tree without its last step", file: "block.cuh", unit: "vector.cu",
		from: "for (int d = 16; d > 0; d >>= 1)", to: "for (int d = 16; d > 1; d >>= 1)",
		breaks: "every other lane is left out of a sum", cases: []string{"Dot", "MaxAbs", "RowsDot"},
	},
	{
		name: "shared memory of a reduction one value short", file: "block.cuh", unit: "vector.cu",
		from: "store[33 * sizeof(V)]", to: "store[32 * sizeof(V)]",
		breaks: "the result is written behind the block's memory", cases: []string{"Dot", "PowSum"},
	},
	{
		name: "missing barrier in the sums over rows", file: "block.cuh", unit: "bn.cu",
		from: "part[k * size() + rank()] = acc[k];\n      sync();", to: "part[k * size() + rank()] = acc[k];",
		breaks: "a channel's sum is taken before its parts are there", cases: []string{"BNStats"},
	},
	{
		name: "sums over rows without the first part", file: "block.cuh", unit: actUnit,
		from: "for (int j = 0; j < groups; j++) s +=", to: "for (int j = 1; j < groups; j++) s +=",
		breaks: "rows are left out of every channel's sum", cases: []string{"ActBackwardReduce"},
	},
	{
		name: "stale tangent of exp", file: "dual.cuh", unit: "softmax.cu",
		from: "return {e, e * x.b};", to: "return {e, x.b};",
		breaks: "the tangent goes through unmultiplied; the primal is right", cases: []string{"Softmax", "SoftmaxXent"},
	},
	{
		name: "product rule without its second term", file: "dual.cuh", unit: "bn.cu",
		from: "return {x.a * y.a, x.a * y.b + x.b * y.a};", to: "return {x.a * y.a, x.a * y.b};",
		breaks: "Hessians are no longer symmetric", cases: []string{"BNAffine", "BNBackward", "BNStats"},
	},
	{
		name: "tangent plane that does not move with the row", file: "dual.cuh", unit: "softmax.cu",
		from:   "FN in operator+(int64_t i) const { return {p ? p + i : p, t ? t + i : t}; }",
		to:     "FN in operator+(int64_t i) const { return {p ? p + i : p, t}; }",
		breaks: "every row takes the first row's tangent", cases: []string{"Softmax", "SoftmaxXent"},
	},
	{
		name: "tangents stored with their primals alone", file: "dual.cuh", unit: actUnit,
		from: "if (t) t[i] = x.b;", to: "if (p && t) t[i] = x.b;",
		breaks: "a replayed pass leaves its tangents unwritten", cases: []string{"ActForward", "ActBackward"},
	},
	{
		name: "missing barrier after staging", file: "act.cu", unit: actUnit,
		from: "store + 2 * kStage, store + 3 * kStage);\n    block::sync();", to: "store + 2 * kStage, store + 3 * kStage);",
		breaks: "threads read coefficients that others have not staged", cases: []string{"ActForward"},
	},
	{
		name: "missing barrier between doublings of what is staged", file: "act.cu", unit: actUnit,
		from: "    block::sync();\n    LANES(i, more)", to: "    LANES(i, more)",
		breaks: "threads repeat coefficients that others have not staged", cases: []string{"ActForward", "ActBackward"},
	},
	{
		name: "overlapping planes in shared memory", file: "act.cu", unit: actUnit,
		from: "store + 2 * kStage, store + 3 * kStage);", to: "store + kStage, store + 3 * kStage);",
		breaks: "in dual numbers the shift takes the place of the scale's tangent", cases: []string{"ActForward"},
	},
	{
		name: "uninitialised shared memory", file: "act.cu", unit: actUnit,
		from: "for (int done = period; done < width; done *= 2) {", to: "for (int done = width; done < width; done *= 2) {",
		breaks: "coefficients are staged for the first pixel of a row alone", cases: []string{"ActForward", "ActBackward"},
	},
	{
		name: "last largest value of a window in place of the first", file: "act.cu", unit: actUnit,
		from: "bool take = (x > primal(best.value)) | (x != x);", to: "bool take = (x >= primal(best.value)) | (x != x);",
		breaks: "ties send the gradient to another pixel", cases: []string{"ActForward"},
	},
	{
		name: "window positions swapped", file: "act.cu", unit: actUnit,
		from: "scatter<Affine>(d1, z1, i, at == 1, d, ps[i], qs[i]);", to: "scatter<Affine>(d1, z1, i, at == 2, d, ps[i], qs[i]);",
		breaks: "gradients go to the wrong pixel of a window", cases: []string{"ActBackward"},
	},
	{
		name: "residual without its tangent", file: "act.cu", unit: actUnit,
		from: "if constexpr (Residual) v = v + rp[i];", to: "if constexpr (Residual) v = v + primal(rp[i]);",
		breaks: "what flows past the convolutions has no derivative", cases: []string{"ActForward"},
	},
	{
		name: "overlapping windows without the last", file: "act_window.cu", unit: actUnit,
		from: "int last = at / stride + 1;", to: "int last = at < k ? at / stride + 1 : at / stride;",
		breaks: "an input's gradient lacks that of one of its windows", cases: []string{"ActBackward"},
	},
	{
		name: "padding as a place of the image", file: "act_window.cu", unit: actUnit,
		from: "int tap = on ? at : first, a = row_of(tap, g.k);", to: "int tap = on ? at : 0, a = row_of(tap, g.k);",
		breaks: "memory before the image is read", cases: []string{"ActBackwardReduce"},
	},
	{
		name: "combining one part too many", file: "act.cu", unit: actUnit,
		from: "0, parts, static_cast<int>(r.hi - r.lo),", to: "0, parts + 1, static_cast<int>(r.hi - r.lo),",
		breaks: "memory behind the partial sums is added", cases: []string{"ActBackwardReduce"},
	},
	{
		name: "overlapping workspace of blocks", file: "bn.cu",
		from: "static_cast<int64_t>(block::id()) * 2 * K * c", to: "static_cast<int64_t>(block::id()) * K * c",
		breaks: "a block's means land on its neighbour's squares", cases: []string{"BNStats"},
	},
	{
		name: "all blocks write one part", file: "vector.cu",
		from: "partial[block::id()] = s;", to: "partial[0] = s;",
		breaks: "the other parts are summed uninitialised", cases: []string{"Dot"},
	},
	{
		name: "every block sums the first range", file: "vector.cu",
		from: "float x = math::abs(a[r.lo + i]) / s;", to: "float x = math::abs(a[i]) / s;",
		breaks: "sums of more than one block are wrong", cases: []string{"PowSum"},
	},
	{
		name: "a reduction that some warps do not reach", file: "vector.cu",
		from:   "double s = block::sum(n, [&](int64_t i) { return partial[i]; });",
		to:     "if (block::rank() >= 32) return;\n  double s = block::sum(n, [&](int64_t i) { return partial[i]; });",
		breaks: "parts of warps that have left are summed uninitialised", cases: []string{"Dot", "PowSum"},
	},
	{
		name: "off-by-one bound of lines", file: "gather.cu",
		from: "if (row < 0 || row >= h)", to: "if (row < 0 || row > h)",
		breaks: "a shift by a line shows the next image, or what lies behind the last", cases: []string{"Gather", "GatherF32", "AugmentAdjoint"},
	},
	{
		name: "reflection that repeats the edge", file: "gather.cu",
		from: "2 * (n - 1) - v : v, 0, n - 1)", to: "2 * n - 1 - v : v, 0, n - 1)",
		breaks: "images go on as their mirror images from the edge on", cases: []string{"Gather", "GatherF32"},
	},
	{
		name: "an edge that is its own mirror image, twice", file: "gather.cu",
		from: "(k == 0 || seen != v)", to: "true",
		breaks: "gradients of the outermost pixels are doubled", cases: []string{"AugmentAdjoint"},
	},
	{
		name: "adjoint that ignores the flip", file: "gather.cu",
		from: "flip ? sx : -sx", to: "-sx",
		breaks: "gradients of flipped images are shifted the wrong way", cases: []string{"AugmentAdjoint"},
	},
	{
		name: "off-by-one rank in a hinge's window", file: "hinge.cu",
		from: "bool active = i + 1 >= in.lo", to: "bool active = i >= in.lo",
		breaks: "a calibration score at the window's edge gets no gradient", cases: []string{"PairwiseHinge"},
	},
	{
		name: "ties counted twice in a sort", file: "hinge.cu",
		from: "rank += hinge::key(x[j]) < ki;", to: "rank += hinge::key(x[j]) <= ki;",
		breaks: "equal scores take one place, and another stays unwritten", cases: []string{"SortScores"},
	},
	{
		name: "label counted before itself", file: "scores.cu",
		from: "static_cast<int>(j < y)", to: "static_cast<int>(j <= y)",
		breaks: "a label's own probability enters its score whole", cases: []string{"Scores", "PairScores"},
	},
	{
		name: "Nesterov momentum that is not damped", file: "optimiser.cu",
		from: "ahead.value ? d + mu * next", to: "ahead.value ? d + next",
		breaks: "the step looks too far ahead", cases: []string{"SGD"},
	},
	{
		name: "stale momentum", file: "optimiser.cu",
		from: "m[i] = next;", to: "m[i] = mu * m[i];",
		breaks: "the next step forgets this gradient", cases: []string{"SGD"},
	},
	{
		name: "one round of Philox too few", file: "philox.cuh", unit: "noise.cu",
		from: "round < 10", to: "round < 9",
		breaks: "draws are not those that a seed promises", cases: []string{"UniformNoise", "GaussianNoise"},
	},
	{
		name: "averages over one line too few", file: "avgpool.cu",
		from: "(static_cast<int64_t>(i + 1) * size + count - 1) / count", to: "(static_cast<int64_t>(i + 1) * size) / count",
		breaks: "windows that share lines do not overlap", cases: []string{"AvgPoolForward", "AvgPoolBackward"},
	},
	{
		name: "one draw for four numbers", file: "dropout.cu",
		from: "philox::uniform(r.w[j]) >= rate", to: "philox::uniform(r.w[0]) >= rate",
		breaks: "neighbours are dropped together", cases: []string{"Dropout"},
	},
	{
		name: "first group's channels for all", file: "persample_grouped.cu", unit: persampleUnits,
		from: "(k + l) / ks * cs + channel", to: "channel",
		breaks: "gradients are those to other groups' inputs", cases: []string{"PersampleGrad/tf32", "PersampleInner/tf32"},
	},
	{
		name: "missing barrier between the two products of a norm", file: "conv_persample.cuh", unit: persampleUnits,
		from: "column0, shared, outputs);\n    block::sync();", to: "column0, shared, outputs);",
		breaks: "copies of the second product land in a stage that other warps still read", cases: []string{"PersampleSqNorm/tf32"},
	},
	{
		name: "half of a symmetric product left out", file: "conv_persample.cuh", unit: persampleUnits,
		from: "right == 0 ? 1 : 2", to: "1",
		breaks: "tiles above the diagonal count once", cases: []string{"PersampleSqNorm/tf32"},
	},
	{
		name: "norms kept that have cancelled", file: "persample.cuh", unit: persampleUnits,
		from: "4.0 * positions * total.sum < total.root * total.root", to: "positions < 0 && total.sum < 0",
		breaks: "a norm is what is left of rounding errors", cases: []string{"PersampleSqNormCancels/tf32"},
	},
	{
		name: "bound of a norm without its diagonal", file: "conv_persample.cuh", unit: persampleUnits,
		from: "right == 0 && warp % 2 == warp / 2", to: "right == 0 && warp % 2 != warp / 2",
		breaks: "no norm is ever found to cancel", cases: []string{"PersampleSqNormCancels/tf32"},
	},
	{
		name: "a cancelled norm kept beside the one made in its place", file: "conv_persample_sum.cu", unit: persampleUnits,
		from: "if (!cancels) out[i] +=", to: "out[i] +=",
		breaks: "rounding errors are added to the norm", cases: []string{"PersampleSqNormCancels/tf32"},
	},
	{
		name: "overlapping numbers of samples", file: "conv_persample.cuh", unit: persampleUnits,
		from: "out[static_cast<int64_t>(sample) * tiles + tile]", to: "out[static_cast<int64_t>(sample) + tile]",
		breaks: "a sample's tiles are written over its neighbour's", cases: []string{"PersampleSqNorm/tf32", "PersampleInner/tf32"},
	},
	{
		name: "first image for every sample", file: "conv_persample.cuh", unit: persampleUnits,
		from: "return i * g.h * g.w * g.c;", to: "return 0 * i;",
		breaks: "gradients are of another sample's input", cases: []string{"PersampleGrad/tf32"},
	},
	{
		name: "missing cp.async wait", file: "conv.cuh", unit: convUnit,
		from: "          mma::wait<kStages - 2>();\n          block::sync();", to: "          block::sync();",
		breaks: "fragments are read before their copies have come", cases: []string{"ConvForward/tf32", "ConvBackwardWeight/tf32"},
	},
	{
		name: "missing barrier between stages", file: "conv.cuh", unit: convUnit,
		from: "          mma::wait<kStages - 2>();\n          block::sync();", to: "          mma::wait<kStages - 2>();",
		breaks: "a warp reads what others copy, and copies over what others read", cases: []string{"ConvForward/tf32"},
	},
	{
		name: "wrong fragment index", file: "mma.cuh", unit: convUnit,
		from:   "int octet = kSide == kA ? i & 1 : i >> 1, half = kSide == kA ? i >> 1 : i & 1;",
		to:     "int octet = i >> 1, half = i & 1;",
		breaks: "the second and third registers of A change places", cases: []string{"ConvForward/tf32"},
	},
	{
		name: "wrong split-K part bound", file: "conv.cuh", unit: convUnit,
		from: "each = (all + grid.parts - 1) / grid.parts;", to: "each = all / grid.parts;",
		breaks: "what is left over at the end of a sum is in no part", cases: []string{"ConvBackwardWeight/tf32"},
	},
	{
		name: "stale tangent in a dual product", file: "conv.cuh", unit: convUnit,
		from: "add(sums[1][i][j], a, b[j][1]);", to: "add(sums[1][i][j], a, b[j][0]);",
		breaks: "A meets B where its tangent belongs", cases: []string{"ConvForward/tf32", "ConvBackwardData/tf32", "ConvBackwardWeight/tf32"},
	},
	{
		name: "stale tangent in the second half of a sum", file: "conv.cuh", unit: convUnit,
		from: "bool other = second || work.plane;", to: "bool other = work.plane;",
		breaks: "a replayed pass adds the same product twice", cases: []string{"ConvForward/tf32", "ConvBackwardData/tf32"},
	},
	{
		name: "wrong class of residues", file: "conv.cuh", unit: convUnit,
		from: "y0 = (residue + stride - pad % stride) % stride;", to: "y0 = residue;",
		breaks: "with a stride and padding, pixels get the taps of their neighbours", cases: []string{"ConvBackwardData/tf32"},
	},
	{
		name: "zeros missing behind a sum's end", file: "conv.cuh", unit: convUnit,
		from: "if (k < depth && next + i / kPerTile < work.last)", to: "if (next + i / kPerTile < work.last)",
		breaks: "a last tile that is not full adds what lies behind", cases: []string{"ConvForward/tf32", "ConvBackwardWeight/tf32"},
	},
	{
		name: "copies without their zeros", file: "conv_pack.cu", unit: convUnit,
		from: "if (first + j < c) v[j] = at[j];", to: "v[j] = at[j];",
		breaks: "channels that are not there enter the sums", cases: []string{"ConvForward/tf32"},
	},
}

// persampleUnits are what the per-sample cases of one precision launch.
const persampleUnits = "persample.cu persample_grouped.cu conv_persample_tf32.cu conv_persample_sum.cu conv_pack.cu"

// The order of blocks and warps, as in scripts/test-ptx.sh: a fault is caught if one shows it.
var orders = []string{"0", "1", "5"}

// Every fault must be caught by each of its cases on the emulator; the unedited file must pass them.
// GOCP_FAULTS=1 asks for it (scripts/test-ptx.sh): it needs nvcc, and the emulator as GOCP_LIBCUDA.
func TestSeededFaults(t *testing.T) {
	if os.Getenv("GOCP_FAULTS") == "" {
		t.Skip("make test-ptx runs it")
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	path, err := exec.Command(filepath.Join(root, "scripts", "nvcc.sh")).Output()
	if err != nil {
		t.Fatalf("no nvcc: %v", err)
	}
	b := &faultBench{
		nvcc: strings.TrimSpace(string(path)), kernels: filepath.Join(root, "kernels"), dir: t.TempDir(),
		images: map[string]func() (string, error){}, passed: map[string]func() error{},
	}
	caught := make([]string, len(faults))
	t.Run("faults", func(t *testing.T) {
		for i, f := range faults {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				image, err := b.compile(t.TempDir(), f)
				if err != nil {
					t.Fatal(err)
				}
				var words []string
				for _, name := range f.cases {
					order, by, err := b.find(image, f, name)
					if err != nil {
						t.Fatal(err)
					}
					if by == "" {
						t.Fatalf("%s: not caught by %s: %s", f.file, name, f.breaks)
					}
					if order != "0" {
						by += " (order " + order + ")"
					}
					words = append(words, by)
				}
				caught[i] = words[0]
			})
		}
	})
	missed := 0
	for i, f := range faults {
		if caught[i] == "" {
			missed++
			caught[i] = "NOT CAUGHT"
		}
		fmt.Printf("%-12s %s (%s)\n             %s: %s\n", f.file, f.name, f.breaks, strings.Join(f.cases, ", "), caught[i])
	}
	fmt.Printf("seeded faults: %d of %d caught\n", len(faults)-missed, len(faults))
}

// A faultBench compiles and runs kernels with and without faults.
type faultBench struct {
	nvcc, kernels string
	dir           string // for the kernels without faults
	mu            sync.Mutex
	images        map[string]func() (string, error) // without a fault, by unit
	passed        map[string]func() error           // runs of them, by unit, case and order
}

// once is the function of that key, made by the first who asks for it.
func once[F any](b *faultBench, of map[string]F, key string, make func() F) F {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := of[key]; !ok {
		of[key] = make()
	}
	return of[key]
}

func (f fault) compiled() string {
	if f.unit != "" {
		return f.unit
	}
	return f.file
}

// compile makes PTX of f's unit in dir, a copy of the kernels with the edit; without from as it is.
func (b *faultBench) compile(dir string, f fault) (string, error) {
	if err := os.CopyFS(dir, os.DirFS(b.kernels)); err != nil {
		return "", err
	}
	if f.from != "" {
		name := filepath.Join(dir, f.file)
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		if n := bytes.Count(text, []byte(f.from)); n != 1 {
			return "", fmt.Errorf("%s has %d places %q, not one: the fault does not apply", f.file, n, f.from)
		}
		if err := os.WriteFile(name, bytes.Replace(text, []byte(f.from), []byte(f.to), 1), 0o600); err != nil {
			return "", err
		}
	}
	image, unit := filepath.Join(dir, "unit.ptx"), filepath.Join(dir, "unit.cu")
	var parts strings.Builder
	for _, name := range strings.Fields(f.compiled()) {
		fmt.Fprintf(&parts, "#include %q\n", name)
	}
	if err := os.WriteFile(unit, []byte(parts.String()), 0o600); err != nil {
		return "", err
	}
	// The flags are those of scripts/gpu.sh.
	out, err := exec.Command(b.nvcc, "-std=c++17", "-O3", "-fmad=false", "-arch=compute_80", "-ptx",
		unit, "-o", image).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s does not compile: %w: %s", f.compiled(), err, out)
	}
	return image, nil
}

// find runs a case until an order shows the fault and returns what the case says, or nothing. In
// that order the unedited kernels must pass it.
func (b *faultBench) find(image string, f fault, name string) (order, by string, err error) {
	for _, order := range orders {
		by, err := run(image, name, order)
		if err != nil {
			return "", "", fmt.Errorf("%s: %w", name, err)
		}
		if by != "" {
			return order, by, b.passes(f.compiled(), name, order)
		}
	}
	return "", "", nil
}

// passes is the run without a fault, made once.
func (b *faultBench) passes(unit, name, order string) error {
	return once(b, b.passed, unit+" "+name+" "+order, func() func() error {
		return sync.OnceValue(func() error {
			image, err := once(b, b.images, unit, func() func() (string, error) {
				return sync.OnceValues(func() (string, error) { return b.compile(filepath.Join(b.dir, unit), fault{file: unit}) })
			})()
			by := ""
			if err == nil {
				by, err = run(image, name, order)
			}
			if by != "" {
				err = errors.New(by)
			}
			if err != nil {
				return fmt.Errorf("%s without a fault, %s in order %s: %w", unit, name, order, err)
			}
			return nil
		})
	})()
}

var (
	said = regexp.MustCompile(`case (\w+ [^\n:]*): [^\n]*`)
	emu  = regexp.MustCompile(`ptxemu: ([^\n]*) ptx line`)
)

// run runs a case on the emulator and returns its first complaint, or nothing if it passes.
func run(image, name, order string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.v", "-test.failfast", "-test.run=^TestCases$/^"+name+"$")
	cmd.Env = append(os.Environ(), "GOCP_FAULTS=", "GOCP_DEVICE=cuda", "GOCP_IMAGE="+image, "PTXEMU_ORDER="+order, "PTXEMU_TRACE=0")
	out, err := cmd.CombinedOutput()
	text := string(out)
	switch {
	case err == nil && strings.Contains(text, "--- PASS: TestCases/"+name):
		return "", nil
	case err != nil && strings.Contains(text, "--- FAIL: TestCases/"+name):
		if s := said.FindStringSubmatch(text); s != nil {
			if e := emu.FindStringSubmatch(text); e != nil {
				return s[1] + ": " + e[1], nil
			}
			return strings.TrimPrefix(s[0], "case "), nil
		}
	}
	return "", fmt.Errorf("the case did not run: %v: %s", err, text[max(0, len(text)-1000):])
}
