package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/telemetry/nvidia"
)

// Diagnosis is what gocp finds on this machine.
type Diagnosis struct {
	Version   Version       `json:"version"`
	Device    *device.Info  `json:"device"` // null where none opens
	Error     string        `json:"error,omitempty"`
	Toolkit   *Toolkit      `json:"toolkit"` // null where there is none
	Driver    string        `json:"driver"`  // of the kernel module, "" where none is loaded
	GPUs      []nvidia.Card `json:"gpus"`
	Cores     int           `json:"cores"`
	Memory    uint64        `json:"memory_bytes"` // of the machine; 0: unknown
	Available uint64        `json:"memory_available_bytes"`
	Libraries []Library     `json:"libraries"`
	Data      []string      `json:"data"`
	Variables []Variable    `json:"variables"`
}

// Toolkit is the CUDA compiler. gocp runs without it; building GPU kernels needs it.
type Toolkit struct {
	Nvcc    string `json:"nvcc"`
	Version string `json:"version"`
}

// Library is a shared library that this process has loaded.
type Library struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

// Variable is an environment variable that gocp reads.
type Variable struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Set     bool   `json:"set"`
	Meaning string `json:"meaning"` // "" for one that gocp does not know
}

var variables = []Variable{
	{Name: "GOCP_DEVICE", Meaning: "where to compute: auto, cpu or cuda (--device sets it)"},
	{Name: "GOCP_LIBCUDA", Meaning: "another file in place of libcuda.so.1"},
	{Name: "GOCP_IMAGE", Meaning: "a file of GPU code in place of this build's"},
	{Name: "GOCP_CALLS", Meaning: "a file to which the name of every driver call is appended"},
	{Name: "GOCP_THREADS", Meaning: "how many cores to use"},
	{Name: "GOCP_ISA", Meaning: "which build of the host kernels to use: base, v3 or v4"},
	{Name: "GOCP_DATA", Meaning: "the folder for data sets that were fetched"},
	{Name: "GOCP_CHECK", Meaning: "1: guard memory and check every launch on the CPU, wait for every launch on a GPU (slow)"},
}

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "say what this machine computes on, and why",
		Flags: []cli.Flag{deviceFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if err := useDevice(c); err != nil {
				return err
			}
			d := diagnose(c.Context)
			if c.Bool("json") {
				return printJSON(c.App.Writer, d)
			}
			return d.print(c.App.Writer)
		},
	}
}

func diagnose(ctx context.Context) *Diagnosis {
	d := &Diagnosis{
		Version:   version(),
		Toolkit:   findToolkit(ctx),
		Driver:    firstLine("/proc/driver/nvidia/version"),
		GPUs:      nvidia.Cards(nvidia.Library()),
		Cores:     runtime.NumCPU(),
		Variables: environment(os.Environ()),
	}
	d.Memory, d.Available = machineMemory()
	dev, err := device.Open()
	if err == nil {
		info := dev.Info()
		d.Device = &info
		err = dev.Close()
	}
	if err != nil {
		d.Error = err.Error()
	}
	d.Libraries = loadedLibraries()
	d.Data = foundData()
	return d
}

// gpuCode says what GPU code this binary carries.
func gpuCode() string {
	if image, ok := device.Image(); ok {
		return image.String()
	}
	return "CPU only, no GPU image in this binary (make gpu builds one)"
}

func (d *Diagnosis) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		// Errors of the writer stay in it until Flush.
		_, _ = fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("gocp", "%s", d.Version)
	row("GPU code", "%s", gpuCode())
	if i := d.Device; i != nil {
		row("computes on", "%s: %s", i.Backend, i.Name)
		row("because", "%s", i.Why)
		if i.ISA != "" {
			row("host kernels", "%s build; oneDNN %s", i.ISA, i.OneDNN)
		}
		if image, ok := device.Image(); ok && i.Backend == "cuda" && os.Getenv("GOCP_IMAGE") == "" {
			row("and runs", "%s", image.For(i.Capability))
		}
	} else {
		row("computes on", "nothing: %s", d.Error)
	}
	row("cores", "%d", d.Cores)
	if d.Memory > 0 {
		row("memory", "%s, of which %s available", gib(d.Memory), gib(d.Available))
	}
	for _, l := range d.Libraries {
		row(l.Name, "%s", l.Path)
	}
	switch {
	case d.Driver != "":
		row("GPU driver", "%s", d.Driver)
	default:
		row("GPU driver", "none loaded")
	}
	for _, g := range d.GPUs {
		row("GPU", "%s, %s, driver %s", g.Name, gib(g.Memory), g.Driver)
	}
	if d.Toolkit != nil {
		row("CUDA toolkit", "%s (%s); needed only to build GPU kernels", d.Toolkit.Version, d.Toolkit.Nvcc)
	} else {
		row("CUDA toolkit", "none found; needed only to build GPU kernels")
	}
	row("data sets", "%s", strings.Join(d.Data, ", "))
	for _, v := range d.Variables {
		switch {
		case v.Meaning == "":
			row(v.Name, "%q, which gocp does not know", v.Value)
		case v.Set:
			row(v.Name, "%s (%s)", v.Value, v.Meaning)
		default:
			row(v.Name, "not set (%s)", v.Meaning)
		}
	}
	return t.Flush()
}

func gib(bytes uint64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30)) }

// environment lists the variables gocp reads, and those that look as if it should.
func environment(environ []string) []Variable {
	out := slices.Clone(variables)
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "GOCP_") {
			continue
		}
		i := slices.IndexFunc(out, func(v Variable) bool { return v.Name == name })
		if i < 0 {
			out = append(out, Variable{Name: name})
			i = len(out) - 1
		}
		out[i].Value, out[i].Set = value, true
	}
	return out
}

// findToolkit looks for nvcc where toolkits put it.
func findToolkit(ctx context.Context) *Toolkit {
	candidates := []string{"nvcc"}
	for _, v := range []string{"CUDA_HOME", "CUDA_PATH"} {
		if home := os.Getenv(v); home != "" {
			candidates = append(candidates, filepath.Join(home, "bin", "nvcc"))
		}
	}
	candidates = append(candidates, "/usr/local/cuda/bin/nvcc")
	for _, c := range candidates {
		path, err := exec.LookPath(c)
		if err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		out, err := exec.CommandContext(ctx, path, "--version").Output()
		cancel()
		if err != nil {
			continue
		}
		t := &Toolkit{Nvcc: path, Version: "unknown version"}
		for line := range strings.Lines(string(out)) {
			if _, rest, ok := strings.Cut(line, "release "); ok {
				t.Version = strings.TrimSpace(rest)
			}
		}
		return t
	}
	return nil
}

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.Join(strings.Fields(line), " ")
}

// machineMemory reads what Linux says of its memory, 0 where it says nothing.
func machineMemory() (total, available uint64) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			continue
		}
		switch f[0] {
		case "MemTotal:":
			total = kib << 10
		case "MemAvailable:":
			available = kib << 10
		}
	}
	return total, available
}

// loadedLibraries names the numerical libraries in this process by the files they came from.
func loadedLibraries() []Library {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []Library
	for s := bufio.NewScanner(f); s.Scan(); {
		_, path, ok := strings.Cut(s.Text(), "/")
		if !ok {
			continue
		}
		path = "/" + path
		for prefix, name := range map[string]string{"libdnnl.so": "oneDNN", "libgomp.so": "OpenMP", "libcuda.so": "libcuda"} {
			l := Library{Name: name, Path: path}
			if strings.HasPrefix(filepath.Base(path), prefix) && !slices.Contains(out, l) {
				out = append(out, l)
			}
		}
	}
	slices.SortFunc(out, func(a, b Library) int { return strings.Compare(a.Name, b.Name) })
	return out
}
