package experiment

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/trainer"
)

// identitySchema is the version of config.json. Folders of version 1 have no journal.
const identitySchema = 2

// identity is config.json: all that decides the bytes of a run. A folder is bound to it.
type identity struct {
	Schema  int          `json:"schema"`
	Data    string       `json:"data"` // name of the data set, and how it was read: the hashes tell what came of it
	Reading data.Reading `json:"reading,omitzero"`
	Train   string       `json:"train"`
	Test    string       `json:"test"`
	Engine  engine       `json:"engine"`
	Program program      `json:"program"`
	// Commands that train models: words with files by their last names, and the files' hashes. Where the
	// files lie is in Config.
	Commands commands `json:"commands,omitzero"`
	Config   Config   `json:"config"`
}

type commands struct {
	Victim    *result.Command `json:"victim,omitempty"`
	Reference *result.Command `json:"reference,omitempty"`
}

// commandRecord is what of a command is the same on another machine, nil of none.
func commandRecord(c trainer.Command) *result.Command {
	if len(c.Words) == 0 {
		return nil
	}
	out := &result.Command{Line: c.String()}
	for _, f := range c.Files {
		if out.Files == nil {
			out.Files = map[string]string{}
		}
		name := c.Names()[f.Word]
		if _, again := out.Files[name]; again { // of another folder
			name = fmt.Sprintf("%s, word %d", name, f.Word)
		}
		out.Files[name] = f.SHA256
	}
	return out
}

// engine is what computes, as far as the last bits depend on it.
type engine struct {
	Backend    string `json:"backend"`
	Device     string `json:"device"`
	ISA        string `json:"isa,omitempty"`    // of the host kernels
	OneDNN     string `json:"onednn,omitempty"` // version, instruction set, caches
	Capability int    `json:"capability,omitempty"`
	Driver     int    `json:"driver,omitempty"` // it may translate the kernels
	Image      string `json:"image,omitempty"`  // SHA-256 of the GPU code
}

// program is what computes with it.
type program struct {
	Gocp   string `json:"gocp"`             // revision
	Native string `json:"native"`           // SHA-256 of the C++ half
	Go     string `json:"go"`               // compiler
	Binary string `json:"binary,omitempty"` // SHA-256 of the program, where the revision does not say what it is made of
}

func newIdentity(c Config, d Data, i device.Info, version string) (identity, error) {
	id := identity{Schema: identitySchema, Data: d.Train.Name, Reading: d.Reading, Train: d.Train.SHA256, Test: d.Test.SHA256,
		Engine:  engine{Backend: i.Backend, Device: i.Name, ISA: i.ISA, OneDNN: i.OneDNN, Capability: i.Capability, Image: i.Image},
		Program: program{Gocp: version, Native: i.Build, Go: runtime.Version()}, Config: c}
	if i.Backend != "host" {
		id.Engine.Driver = i.DriverVersion
	}
	if vague(version) {
		var err error
		if id.Program.Binary, err = thisProgram(); err != nil {
			return id, err
		}
	}
	return id, nil
}

// vague tells whether programs with this version may differ: sources that were changed after the
// commit, or no version at all.
func vague(version string) bool {
	return version == "" || strings.Contains(version, "dirty") || strings.Contains(version, "unknown") || strings.Contains(version, "devel")
}

// thisProgram hashes the program that runs. Linux still has it where its file was replaced meanwhile.
func thisProgram() (string, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		name, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("run folder: finding this program: %w", err)
		}
		if f, err = os.Open(name); err != nil {
			return "", fmt.Errorf("run folder: %w", err)
		}
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("run folder: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (id identity) encode() ([]byte, error) {
	b, err := strictjson.Indent(id, " ")
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	return b, nil
}

// differences names what is another in id than in the config.json old, each with both values.
func (id identity) differences(old []byte) ([]string, error) {
	b, err := id.encode()
	if err != nil {
		return nil, err
	}
	now, order, err := strictjson.Leaves(b)
	if err != nil {
		return nil, err
	}
	was, more, err := strictjson.Leaves(old)
	if err != nil {
		return nil, err
	}
	for _, name := range more { // a field that this gocp does not know
		if _, ok := now[name]; !ok {
			order = append(order, name)
		}
	}
	same := func(name string) bool {
		return name == "schema" || name == "data" || strings.HasPrefix(name, "reading.") ||
			name == "config.victim_command" || name == "config.reference_command" || now[name] == was[name]
	}
	var out []string
	for _, name := range order {
		twin := strings.NewReplacer("config.surrogate.", "config.victim.", "config.surrogate_train.", "config.victim_train.").Replace(name)
		if same(name) || twin != name && !same(twin) && now[twin] == now[name] && was[twin] == was[name] {
			continue // said, or said of both
		}
		one := strings.NewReplacer("config.victim.", "config.surrogate.", "config.victim_train.", "config.surrogate_train.").Replace(name)
		both := one != name && now[one] == now[name] && was[one] == was[name]
		out = append(out, fmt.Sprintf("%s %s, was %s", inWords(name, both), shown(now[name]), shown(was[name])))
	}
	return out, nil
}

// words for fields whose own names do not say it.
var fieldWords = map[string]string{
	"train":                   "training images (SHA-256)",
	"test":                    "test images (SHA-256)",
	"engine.backend":          "back end",
	"engine.device":           "device",
	"engine.isa":              "host kernels (GOCP_ISA)",
	"engine.onednn":           "oneDNN",
	"engine.capability":       "compute capability",
	"engine.driver":           "driver",
	"engine.image":            "GPU code (SHA-256)",
	"program.gocp":            "gocp",
	"program.native":          "kernels of this build (SHA-256)",
	"program.go":              "Go",
	"program.binary":          "this program (SHA-256)",
	"config.goal.name":        "goal",
	"commands.victim.line":    "victim command",
	"commands.reference.line": "reference command",
	"config.score.name":       "score",
}

// inWords is a field's name for people; both says that it is the victims' and the surrogates'.
func inWords(name string, both bool) string {
	if w, ok := fieldWords[name]; ok {
		return w
	}
	for _, role := range []string{"victim", "reference"} {
		if file, ok := strings.CutPrefix(name, "commands."+role+".files."); ok {
			return fmt.Sprintf("%s of the %s command (SHA-256)", file, role)
		}
	}
	name = strings.TrimPrefix(name, "config.")
	if both {
		_, name, _ = strings.Cut(name, ".")
	}
	for _, r := range [][2]string{{"victim_train.", "victim."}, {"surrogate_train.", "surrogate."}, {"craft.", "crafting."}} {
		name = strings.Replace(name, r[0], r[1], 1)
	}
	return strings.NewReplacer("_", " ", ".", " ").Replace(name)
}

// shown is a leaf for people: a string without its quotes, the beginning of a hash.
func shown(leaf string) string {
	var s string
	switch {
	case leaf == "":
		return "nothing"
	case strictjson.Unmarshal([]byte(leaf), &s) != nil:
		return leaf
	case s == "":
		return `""`
	case len(s) == 64 && !slices.ContainsFunc([]rune(s), func(c rune) bool { return !strings.ContainsRune("0123456789abcdef", c) }):
		return s[:12]
	}
	return s
}
