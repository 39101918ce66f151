package experiment

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/journal"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/store"
)

// varied changes a field of an audit. from says what it starts from, where that is not smallest.
type varied struct {
	from   string
	change func(*Config)
	// apart says that the field may keep jobs apart whose bytes are the same here: it was without effect.
	apart bool
}

var startingPoints = map[string]func(*Config){
	"":              func(*Config) {},
	"second order":  func(c *Config) { c.Craft.Order = 2 },
	"soft quantile": func(c *Config) { c.Craft.Loss = attack.LossSoftQuantile },
	"raps":          func(c *Config) { c.Score.Name, c.Score.Lambda, c.Score.KReg = "raps", 0.1, 1 },
	"steps":         func(c *Config) { c.VictimTrain.Schedule, c.VictimTrain.Milestones = "steps", []int{2} },
	"batch":         func(c *Config) { c.Craft.Align = "batch" },
	"grow":          func(c *Config) { c.Goal = attack.GoalConfig{Name: "underconfidence", Count: 2, Size: 2} },
	"given labels":  func(c *Config) { c.Goal.True, c.Goal.Labels = false, []int{1} },
	"steps of the adversary": func(c *Config) {
		c.SurrogateTrain = Train{Epochs: 6, Batch: 16, LR: 0.08, Schedule: "steps", Milestones: []int{2}}
	},
	"another adversary": func(c *Config) { c.SurrogateTrain = Train{Epochs: 6, Batch: 16, LR: 0.08, Shift: 1} },
	"maxup":             func(c *Config) { c.Defense = "maxup" },
	"sam":               func(c *Config) { c.Defense = "sam" },
	"poisoning":         func(c *Config) { c.Defense = "adversarial-poisoning" },
	"epic":              func(c *Config) { c.Defense, c.Training.Fraction = "epic", 0.4 }, // each pruning drops some
	"private":           func(c *Config) { c.Defense = "dp-sgd" },
	"labels too":        func(c *Config) { c.Craft.Poison = "both" },
	"nearest":           func(c *Config) { c.Craft.Bases = "nearest" },
	"subgroups": func(c *Config) {
		c.Goal, c.Targets, c.Subgroups = attack.GoalConfig{Name: "unequal"}, 2, Subgroups{By: SubgroupClusters, Clusters: 2}
	},
	"misclassified": func(c *Config) { c.Craft.Method = "witchesbrew" },
	"unrolled":      func(c *Config) { c.Craft.Method, c.Craft.Meta.Ages, c.Craft.Steps = "metapoison", 2, 2 },
	"mobilenet":     func(c *Config) { c.Victim = Model{Arch: "mobilenet_v2", Width: 8} },
}

// fields has every field of Config that is part of a run's identity, by its name there.
var fields = map[string]varied{
	"seed":                              {change: func(c *Config) { c.Seed++ }},
	"goal.name":                         {change: func(c *Config) { c.Goal = attack.GoalConfig{Name: "underconfidence", Count: 2, Size: 2} }},
	"goal.size":                         {change: func(c *Config) { c.Goal.Size = 3 }},
	"goal.count":                        {from: "grow", change: func(c *Config) { c.Goal.Count = 1 }},
	"goal.labels":                       {from: "given labels", change: func(c *Config) { c.Goal.Labels = []int{2} }},
	"goal.words":                        {from: "given labels", change: func(c *Config) { c.Goal.Labels, c.Goal.Words = nil, []string{"2"} }},
	"goal.true":                         {from: "given labels", change: func(c *Config) { c.Goal.Labels, c.Goal.True = nil, true }},
	"goal.reckless":                     {change: func(c *Config) { c.Goal.Reckless = true }},
	"score.name":                        {from: "raps", change: func(c *Config) { c.Score.Name = "aps" }},
	"score.u":                           {from: "raps", change: func(c *Config) { c.Score.U = "sample" }},
	"score.lambda":                      {from: "raps", change: func(c *Config) { c.Score.Lambda = 0.3 }},
	"score.k_reg":                       {from: "raps", change: func(c *Config) { c.Score.KReg = 0 }},
	"score.nonempty":                    {change: func(c *Config) { c.Score.Nonempty = true }, apart: true},
	"miscoverage":                       {change: func(c *Config) { c.Miscoverage = "0.2" }},
	"budget":                            {change: func(c *Config) { c.Budget = BudgetAuto }},
	"craft.method":                      {change: func(c *Config) { c.Craft.Method = "witchesbrew" }},
	"craft.adversarial_label":           {from: "misclassified", change: func(c *Config) { c.Craft.AdversarialLabel = "random" }, apart: true},
	"craft.metapoison.ages":             {from: "unrolled", change: func(c *Config) { c.Craft.Meta.Ages = 3 }},
	"craft.metapoison.unroll":           {from: "unrolled", change: func(c *Config) { c.Craft.Meta.Unroll = 1 }},
	"craft.metapoison.age_every":        {from: "unrolled", change: func(c *Config) { c.Craft.Meta.AgeEvery = 2 }},
	"craft.poison":                      {change: func(c *Config) { c.Craft.Poison = "both" }},
	"craft.rounds":                      {from: "labels too", change: func(c *Config) { c.Craft.Rounds = 2 }},
	"craft.diverse":                     {from: "nearest", change: func(c *Config) { c.Craft.Diverse = true }},
	"subgroups.clusters":                {from: "subgroups", change: func(c *Config) { c.Subgroups.Clusters = 3 }},
	"craft.epsilon_255":                 {change: func(c *Config) { c.Craft.Epsilon255 = 8 }},
	"craft.bases":                       {change: func(c *Config) { c.Craft.Bases = "gradnorm" }},
	"craft.align":                       {change: func(c *Config) { c.Craft.Align = "poison" }},
	"craft.batch":                       {from: "batch", change: func(c *Config) { c.Craft.Batch = 3 }},
	"craft.steps":                       {change: func(c *Config) { c.Craft.Steps = 3 }},
	"craft.restarts":                    {change: func(c *Config) { c.Craft.Restarts = 2 }},
	"craft.step_size":                   {change: func(c *Config) { c.Craft.StepSize = 0.2 }},
	"craft.decay":                       {change: func(c *Config) { c.Craft.Decay = 0.9 }},
	"craft.start":                       {change: func(c *Config) { c.Craft.Start = "normal" }},
	"craft.loss":                        {change: func(c *Config) { c.Craft.Loss = attack.LossSoftQuantile }},
	"craft.threshold":                   {change: func(c *Config) { c.Craft.Threshold = "moving" }},
	"craft.margin":                      {change: func(c *Config) { c.Craft.Margin = 0.6 }},
	"craft.window":                      {change: func(c *Config) { c.Craft.Window = 5 }},
	"craft.bandwidth":                   {from: "soft quantile", change: func(c *Config) { c.Craft.Bandwidth = 0.3 }},
	"craft.keep_beta":                   {change: func(c *Config) { c.Craft.KeepBeta = 0.01 }, apart: true},
	"craft.plain":                       {change: func(c *Config) { c.Craft.Plain = true }},
	"craft.sam_rho":                     {change: func(c *Config) { c.Craft.SAMRho = 0.5 }},
	"craft.sam_p":                       {change: func(c *Config) { c.Craft.SAMP = 3 }},
	"craft.sam_steps":                   {change: func(c *Config) { c.Craft.SAMSteps = 2 }},
	"craft.order":                       {change: func(c *Config) { c.Craft.Order = 2 }},
	"craft.second_order.curvature":      {from: "second order", change: func(c *Config) { c.Craft.Second.Curvature = "hessian" }},
	"craft.second_order.damping":        {from: "second order", change: func(c *Config) { c.Craft.Second.Damping = "2" }},
	"craft.second_order.solver":         {from: "second order", change: func(c *Config) { c.Craft.Second.Solver = "kfac" }},
	"craft.second_order.iterations":     {from: "second order", change: func(c *Config) { c.Craft.Second.Iterations = 2 }},
	"craft.second_order.tolerance":      {from: "second order", change: func(c *Config) { c.Craft.Second.Tolerance = 0.5 }},
	"craft.second_order.mode":           {from: "second order", change: func(c *Config) { c.Craft.Second.Mode = "exact" }},
	"craft.second_order.preconditioner": {from: "second order", change: func(c *Config) { c.Craft.Second.Preconditioner = "kfac" }},
	"craft.second_order.images":         {from: "second order", change: func(c *Config) { c.Craft.Second.Images = 20 }},
	"craft.shift":                       {change: func(c *Config) { c.Craft.Shift = 2 }},
	"craft.pad":                         {change: func(c *Config) { c.Craft.Pad = "reflect" }},
	"craft.flip":                        {change: func(c *Config) { c.Craft.Flip = true }},
	"conditions":                        {change: func(c *Config) { c.Conditions = []result.Condition{result.RandGa, result.Attack} }},
	"repeats":                           {change: func(c *Config) { c.Repeats = 2 }},
	"targets":                           {change: func(c *Config) { c.Targets = 2 }},
	"victims":                           {change: func(c *Config) { c.Victims = 2 }},
	"gauss_victims":                     {change: func(c *Config) { c.Victims, c.GaussVictims = 2, 2 }},
	"surrogates":                        {change: func(c *Config) { c.Surrogates = 3 }},
	"attackers":                         {change: func(c *Config) { c.Attackers = 2 }},
	"references":                        {change: func(c *Config) { c.References = 2 }},
	"controls":                          {change: func(c *Config) { c.Controls = 2 }},
	"white_box":                         {change: func(c *Config) { c.WhiteBox = true }},
	"train_size":                        {change: func(c *Config) { c.TrainSize = 81 }},
	"cal_size":                          {change: func(c *Config) { c.CalSize = 31 }},
	"candidates":                        {change: func(c *Config) { c.Candidates = 30 }},
	"victim.arch":                       {change: func(c *Config) { c.Victim = Model{Arch: "resnet18", Width: 8} }},
	"victim.width":                      {change: func(c *Config) { c.Victim.Width = 5 }},
	"victim.stem":                       {change: func(c *Config) { c.Victim.Stem = "pool" }},
	"victim.dropout":                    {from: "mobilenet", change: func(c *Config) { c.Victim.Dropout = 0.5 }},
	"victim.batchnorm":                  {change: func(c *Config) { c.Victim.BatchNorm = true }},
	"surrogate":                         {change: func(c *Config) { c.Surrogate = Kinds{{Width: 3}, {Width: 5}} }},
	"precision":                         {change: func(c *Config) { c.Precision = "bf16" }},
	"defense":                           {change: func(c *Config) { c.Defense = "loss" }},
	"training_defense.name":             {change: func(c *Config) { c.Defense = "augment" }},
	"training_defense.copies":           {from: "maxup", change: func(c *Config) { c.Training.Copies = 2 }},
	"training_defense.vary":             {from: "maxup", change: func(c *Config) { c.Training.Vary = []string{"flip"} }},
	"training_defense.radius":           {from: "sam", change: func(c *Config) { c.Training.Radius = 0.2 }},
	"training_defense.clip":             {from: "private", change: func(c *Config) { c.Training.Clip = 0.2 }},
	"training_defense.noise":            {from: "private", change: func(c *Config) { c.Training.Noise = 0.2 }},
	"training_defense.delta":            {from: "private", change: func(c *Config) { c.Training.Delta = 0.2 }},
	"training_defense.ball_255":         {from: "poisoning", change: func(c *Config) { c.Training.Ball255 = 8 }},
	"training_defense.steps":            {from: "poisoning", change: func(c *Config) { c.Training.Steps = 2 }},
	"training_defense.fraction":         {from: "epic", change: func(c *Config) { c.Training.Fraction = 0.3 }},
	"training_defense.from":             {from: "epic", change: func(c *Config) { c.Training.From = 2 }},
	"training_defense.every":            {from: "epic", change: func(c *Config) { c.Training.Every = 2 }},
}

// untried are fields that such small audits cannot vary.
var untried = map[string]string{
	"victim.head":       "only VGGs have one, and they want images of 32×32; the key has the network whole",
	"victim_command":    "what a program makes is not shared: nobody knows what determines its bytes",
	"reference_command": "the same",
	"subgroups.by":      "so small a test part has no subgroups of other kinds; jobs read the targets that come of them",
	"subgroups.sha256":  "the same, of a file",
}

// Both trainings have the same fields.
func init() {
	one := func(name, from string, change func(*Train)) {
		at := map[string]string{"steps": "steps of the adversary", "": "another adversary"}[from]
		fields["victim_train."+name] = varied{from: from, change: func(c *Config) { change(&c.VictimTrain) }}
		fields["surrogate_train."+name] = varied{from: at, change: func(c *Config) { change(&c.SurrogateTrain) }}
	}
	one("recipe", "", func(t *Train) { t.Recipe = "witchesbrew" })
	one("epochs", "", func(t *Train) { t.Epochs = 5 })
	one("batch", "", func(t *Train) { t.Batch = 15 })
	one("lr", "", func(t *Train) { t.LR = 0.07 })
	one("schedule", "", func(t *Train) { t.Schedule = "cosine" })
	one("milestones", "steps", func(t *Train) { t.Milestones = []int{3} })
	one("gamma", "steps", func(t *Train) { t.Gamma = 0.5 })
	one("warmup", "", func(t *Train) { t.Warmup = 1 })
	one("momentum", "", func(t *Train) { t.Momentum = 0.8 })
	one("nesterov", "", func(t *Train) { t.Nesterov = new(true) })
	one("weight_decay", "", func(t *Train) { t.WeightDecay = 1e-2 })
	one("shift", "", func(t *Train) { t.Shift = 2 })
	one("pad", "", func(t *Train) { t.Pad = "reflect" })
	one("flip", "", func(t *Train) { t.Flip = new(true) })
}

// fewFields are tried in a short run.
var fewFields = []string{"score.name", "repeats", "defense", "victim_train.lr"}

// leavesOf names the fields of a configuration, as config.json does.
func leavesOf(t reflect.Type, prefix string) (names []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case f.Type.Kind() == reflect.Struct:
			names = append(names, leavesOf(f.Type, prefix+name+".")...)
		default:
			names = append(names, prefix+name)
		}
	}
	return names
}

// made is the SHA-256 of each file of a run by its name, as the journal has it.
func made(t *testing.T, dir string) map[string]string {
	t.Helper()
	j, err := journal.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range j.Files("") {
		out[f] = j.SHA256(f)
	}
	return out
}

// jobsOf groups the files of a run by the job that wrote them.
func jobsOf(files map[string]string) map[string]map[string]string {
	jobs := map[string]map[string]string{}
	for file, sum := range files {
		parts := strings.Split(file, "/")
		job := ""
		switch parts[0] {
		case modelsDir, logitsDir:
			job = parts[1]
		case poisonsDir:
			job = parts[0] + "/" + parts[1]
		default:
			continue
		}
		if jobs[job] == nil {
			jobs[job] = map[string]string{}
		}
		jobs[job][file] = sum
	}
	return jobs
}

func storedRun(t *testing.T, dev *device.Device, c Config, dir string, s *store.Store) map[string]int {
	t.Helper()
	tally := &progress.Tally{}
	if _, err := Audit(context.Background(), dev, c, miniatureData(t), Options{Dir: dir, Version: "test", Store: s, Tally: tally}); err != nil {
		t.Fatal(err)
	}
	return tally.Counts()
}

// Two audits that differ in one field share those jobs whose bytes are the same, and no others; and
// what an audit takes from a store is what it would have made.
func TestSharedWhereBytesAreTheSame(t *testing.T) {
	leaves := leavesOf(reflect.TypeFor[Config](), "")
	for _, name := range leaves {
		if _, ok := fields[name]; !ok && untried[name] == "" {
			t.Errorf("nothing is known of %s", name)
		}
	}
	for name := range fields {
		if !slices.Contains(leaves, name) {
			t.Errorf("there is no %s", name)
		}
	}
	dev := testkit.Open(t)
	root := t.TempDir()
	from := func(name string) Config {
		c := smallest()
		c.Goal = attack.GoalConfig{Name: "remove", True: true} // there are always targets for it
		startingPoints[name](&c)
		return c
	}
	for name, v := range fields {
		if testing.Short() && !slices.Contains(fewFields, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			first := filepath.Join(root, "from "+v.from)
			if _, err := os.Stat(first); err != nil {
				s, err := store.Open(filepath.Join(first, "store"))
				if err != nil {
					t.Fatal(err)
				}
				if n := storedRun(t, dev, from(v.from), filepath.Join(first, "run"), s)[TallyFound]; n != 0 {
					t.Fatalf("%d jobs were found in an empty store", n)
				}
			}
			dir := t.TempDir()
			if err := os.CopyFS(filepath.Join(dir, "store"), os.DirFS(filepath.Join(first, "store"))); err != nil {
				t.Fatal(err)
			}
			s, err := store.Open(filepath.Join(dir, "store"))
			if err != nil {
				t.Fatal(err)
			}
			c := from(v.from)
			v.change(&c)
			alone, shared := filepath.Join(dir, "alone"), filepath.Join(dir, "shared")
			storedRun(t, dev, c, alone, nil)
			found := storedRun(t, dev, c, shared, s)[TallyFound]
			if a, b := contents(t, alone), contents(t, shared); a != b {
				t.Fatalf("alone:\n%s\nwith what another audit made:\n%s", a, b)
			}
			before, now := jobsOf(made(t, filepath.Join(first, "run"))), jobsOf(made(t, alone))
			same := 0
			for job, files := range now {
				if maps.Equal(files, before[job]) {
					same++
				}
			}
			if same != found && !(v.apart && found < same) {
				t.Errorf("%d of %d jobs have the same bytes, %d were shared", same, len(now), found)
			}
		})
	}
}

// A store whose files were damaged is noticed, and what it held is made again.
func TestDamagedStore(t *testing.T) {
	dev := testkit.Open(t)
	root := t.TempDir()
	s, err := store.Open(filepath.Join(root, "store"))
	if err != nil {
		t.Fatal(err)
	}
	first, again := filepath.Join(root, "first"), filepath.Join(root, "again")
	storedRun(t, dev, smallest(), first, s)
	want := contents(t, first)
	flip(t, filepath.Join(first, "models/surrogate-0.safetensors"), -9) // the store has it by another name
	flip(t, filepath.Join(first, "poisons/000/manifest.json"), 50)
	n := &notes{Reporter: progress.Discard}
	tally := &progress.Tally{}
	if _, err := Audit(context.Background(), dev, smallest(), miniatureData(t), Options{Dir: again, Version: "test", Store: s, Progress: n, Tally: tally}); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, again); got != want {
		t.Errorf("again:\n%s\nfirst:\n%s", got, want)
	}
	counts := tally.Counts()
	if damaged := counts[TallyJobs] - counts[TallyFound]; damaged != 2 || len(n.lines) != 2 || !strings.Contains(n.lines[0], "surrogate-0.safetensors of") {
		t.Errorf("%d jobs were done again; said %q", damaged, n.lines)
	}
}
