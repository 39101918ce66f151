package experiment

import (
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/device"
)

// Whatever changes the bytes of a run is in its identity, and is named with both values.
func TestDifferencesAreNamed(t *testing.T) {
	type changed struct {
		config  Config
		data    Data
		device  device.Info
		version string
	}
	base := func() *changed {
		return &changed{Config{}.WithDefaults(),
			Data{Train: &data.Dataset{Name: "a", SHA256: strings.Repeat("1a", 32)}, Test: &data.Dataset{SHA256: strings.Repeat("2b", 32)}},
			device.Info{Backend: "host", Name: "EPYC", ISA: "v3", OneDNN: "2.6.3, avx2", Build: strings.Repeat("3c", 32), Cores: 2, DriverVersion: 12},
			"abc"}
	}
	of := func(c *changed) identity {
		id, err := newIdentity(c.config.WithDefaults(), c.data, c.device, c.version)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	old, err := of(base()).encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*changed)
		want   string
	}{
		{func(c *changed) {}, ""},
		{func(c *changed) {
			c.config.Workers, c.device.Cores, c.device.Why, c.data.Train.Name = 7, 64, "x", "/moved/a"
		}, ""},
		{func(c *changed) { c.device.DriverVersion = 13 }, ""}, // the host engine's own
		{func(c *changed) { c.config.VictimTrain.Epochs, c.config.SurrogateTrain.Epochs = 30, 30 }, "epochs 30, was 20"},
		{func(c *changed) { c.config.VictimTrain.Epochs = 30 }, "victim epochs 30, was 20"},
		{func(c *changed) { c.config.SurrogateTrain.LR = 0.5 }, "surrogate lr 0.5, was 0.01"},
		{func(c *changed) { c.config.VictimTrain = Train{Recipe: "witchesbrew"} }, "victim recipe witchesbrew, was li; victim epochs 40, was 20; victim schedule steps, was constant; " +
			"victim milestones [14,24,35], was nothing; victim gamma 0.1, was nothing; victim nesterov true, was nothing; victim shift 4, was nothing; victim pad zero, was nothing; victim flip true, was nothing"},
		{func(c *changed) { c.config.Craft.Shift, c.config.Craft.Pad = 2, "reflect" }, "crafting shift 2, was nothing; crafting pad reflect, was nothing"},
		{func(c *changed) { c.config.VictimTrain.Schedule = "cosine" }, "victim schedule cosine, was constant"},
		{func(c *changed) { c.config.VictimTrain.Warmup = 3 }, "victim warmup 3, was nothing"},
		{func(c *changed) { c.config.Victim.Width, c.config.Surrogate[0].Width = 8, 8 }, "width 8, was 16"},
		{func(c *changed) { c.config.Victims, c.config.Surrogates = 4, 4 }, "victims 4, was 2; surrogates 4, was 3"},
		{func(c *changed) { c.config.Surrogate = append(c.config.Surrogate, Model{Arch: "vgg11"}) },
			`surrogate [{"arch":"convnet","width":16,"stem":"stride"},{"arch":"vgg11","width":64,"stem":"cifar","head":"linear"}], was nothing; surrogate arch nothing, was convnet; surrogate width nothing, was 16; surrogate stem nothing, was stride`},
		{func(c *changed) { c.config.Seed = 4 }, "seed 4, was 0"},
		{func(c *changed) { c.config.Budget = "0.02" }, "budget 0.02, was 0.04"},
		{func(c *changed) { c.config.Precision = "bf16" }, "precision bf16, was f32"},
		{func(c *changed) { c.config.Score = conformal.Variant{Name: "aps"} }, "score aps, was hps"},
		{func(c *changed) { c.config.Goal = attack.GoalConfig{Name: "add", Labels: []int{1, 2}} }, "goal add, was overconfidence; goal labels [1,2], was nothing"},
		{func(c *changed) { c.config.Craft.Steps = 41 }, "crafting steps 41, was 40"},
		{func(c *changed) { c.config.WhiteBox = true }, "white box true, was nothing"},
		{func(c *changed) { c.data.Train.SHA256 = strings.Repeat("9f", 32) }, "training images (SHA-256) 9f9f9f9f9f9f, was 1a1a1a1a1a1a"},
		{func(c *changed) { c.data.Test.SHA256 = strings.Repeat("9f", 32) }, "test images (SHA-256) 9f9f9f9f9f9f, was 2b2b2b2b2b2b"},
		{func(c *changed) { c.device.ISA = "base" }, "host kernels (GOCP_ISA) base, was v3"},
		{func(c *changed) { c.device.OneDNN = "3.1.0, avx2" }, "oneDNN 3.1.0, avx2, was 2.6.3, avx2"},
		{func(c *changed) { c.device.Name = "Xeon" }, "device Xeon, was EPYC"},
		{func(c *changed) { c.device.Backend = "cuda" }, "back end cuda, was host; driver 12, was nothing"},
		{func(c *changed) { c.device.Capability = 90 }, "compute capability 90, was nothing"},
		{func(c *changed) { c.device.Image = strings.Repeat("77", 32) }, "GPU code (SHA-256) 777777777777, was nothing"},
		{func(c *changed) { c.device.Build = strings.Repeat("4d", 32) }, "kernels of this build (SHA-256) 4d4d4d4d4d4d, was 3c3c3c3c3c3c"},
		{func(c *changed) { c.version = "def" }, "gocp def, was abc"},
	} {
		x := base()
		c.change(x)
		d, err := of(x).differences(old)
		if got := strings.Join(d, "; "); err != nil || got != c.want {
			t.Errorf("%q, %v; want %q", got, err, c.want)
		}
	}
	d, err := of(base()).differences([]byte(strings.Replace(string(old), `"seed"`, `"invented": {"x": 3}, "seed"`, 1)))
	if got := strings.Join(d, "; "); err != nil || got != "invented x nothing, was 3" {
		t.Errorf("a field that is not known: %q, %v", got, err)
	}
}

// Where the revision does not say what the program was made of, its own hash does.
func TestVagueVersions(t *testing.T) {
	for version, want := range map[string]bool{"": true, "abc-dirty": true, "unknown": true, "(devel)": true,
		"v0.0.0-20260101000000-abcdefabcdef+dirty": true, "3fb5ebf": false, "v1.2.3": false} {
		id, err := newIdentity(Config{}, Data{Train: &data.Dataset{}, Test: &data.Dataset{}}, device.Info{}, version)
		if err != nil || (len(id.Program.Binary) == 64) != want {
			t.Errorf("version %q: the program's hash is %q, %v", version, id.Program.Binary, err)
		}
	}
}
