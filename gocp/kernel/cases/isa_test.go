package cases

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
)

// The host's builds of a kernel differ in speed alone: every case gives the same bits under plain
// x86-64, v3 and v4. Convolutions are a library's; cases that use fused multiply-adds, which
// plain x86-64 has not, agree between v3 and v4.
func TestBitsAcrossInstructionSets(t *testing.T) {
	const child = "GOCP_TEST_PRINT_BITS"
	if os.Getenv(child) != "" {
		printBits(t)
		return
	}
	bits := map[string]map[string]string{}
	for _, isa := range []string{"base", "v3", "v4"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestBitsAcrossInstructionSets$")
		cmd.Env = append(os.Environ(), child+"=1", "GOCP_ISA="+isa, "GOCP_DEVICE=cpu")
		out, err := cmd.CombinedOutput()
		if err != nil && !bytes.Contains(out, []byte("bits ")) {
			t.Logf("%s does not run here: %s", isa, bytes.TrimSpace(out))
			continue
		}
		of := map[string]string{}
		for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
			if f := strings.Split(lines.Text(), "\t"); f[0] == "bits " {
				of[f[1]] = f[2]
			}
		}
		bits[isa] = of
	}
	fused := map[string]bool{"PersampleSqNorm": true, "PersampleGrad": true, "PersampleInner": true}
	for _, pair := range [][2]string{{"base", "v3"}, {"v3", "v4"}} {
		a, b := bits[pair[0]], bits[pair[1]]
		if a == nil || b == nil {
			continue
		}
		for name, hash := range a {
			if pair[0] == "base" && fused[name] {
				continue
			}
			if b[name] != hash {
				t.Errorf("%s: %s and %s give different bits", name, pair[0], pair[1])
			}
		}
	}
}

func printBits(t *testing.T) {
	d := testkit.Open(t)
	for _, c := range All() {
		hash := sha256.New()
		library := false
		for _, sh := range c.Tests {
			p := c.New(sh, newRand(c, sh))
			if p.Bits == OnThreads {
				library = true
				break
			}
			modes := []mode{{}}
			if p.differentiable() {
				modes = append(modes, mode{dual: true, tangents: (&checker{p: p, r: newRand(c, sh)}).direction()})
			}
			for _, m := range modes {
				err := d.Do(context.Background(), 1, func(s *device.Stream) error {
					b, err := p.run(s, m)
					if err != nil {
						return err
					}
					for _, buf := range p.buffers {
						for _, pl := range []*plane{b.primal[buf], b.tangent[buf]} {
							if pl != nil {
								hash.Write(pl.now)
							}
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if !library {
			fmt.Printf("bits \t%s\t%x\n", c.Name, hash.Sum(nil))
		}
	}
}
