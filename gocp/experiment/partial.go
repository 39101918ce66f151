package experiment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/train"
)

// partialDir holds what jobs under way have done. It is gone when they are done.
const partialDir = "partial"

// checkpointEvery is the least time between two checkpoints of a job.
var checkpointEvery = 30 * time.Second

// grace is how long a job has for the step under way, and its checkpoint, when it is told to stop.
const grace = time.Minute

// steady is a context that outlives ctx by the grace: work on a device comes to the end of its step.
func steady(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		late := time.AfterFunc(grace, func() { cancel(context.Cause(ctx)) })
		context.AfterFunc(out, func() { late.Stop() })
	})
	return out, func() { stop(); cancel(nil) }
}

// A partial is what is kept of one training or crafting under way, in a file of the run folder that is
// bound to the run and holds its own hash: the journal knows only what is final.
type partial struct {
	r    *run
	ctx  context.Context // done: make a checkpoint and stop
	name string
	last time.Time
}

func (r *run) partial(ctx context.Context, name string) *partial {
	return &partial{r: r, ctx: ctx, name: name, last: time.Now()}
}

func (p *partial) path() string { return p.r.folder.path(partialDir, p.name+".safetensors") }

func (p *partial) stop() bool { return p.ctx.Err() != nil }

func (p *partial) due() bool { return time.Since(p.last) >= checkpointEvery }

// metaCheck is the hash over all else in the file.
const metaCheck = "check"

// save writes the file. That it cannot is no failure of the job: it goes on without.
func (p *partial) save(f *safetensors.File) error {
	p.last = time.Now()
	if err := p.r.folder.mine(); err != nil {
		return err
	}
	f.Meta["run"], f.Meta["name"] = p.r.folder.journal.SHA256(configFile), p.name
	sum, err := checkOf(f)
	if err != nil {
		return err
	}
	f.Meta[metaCheck] = sum
	err = os.MkdirAll(p.r.folder.path(partialDir), 0o777)
	if err == nil {
		err = f.Save(p.path())
	}
	if err != nil {
		if _, again := p.r.said.LoadOrStore("no checkpoint", true); !again {
			progress.Or(p.r.opt.Progress).Note("no checkpoint of %s: %v", p.name, err)
		}
	}
	return nil
}

// checkOf hashes what a file says.
func checkOf(f *safetensors.File) (string, error) {
	was := f.Meta[metaCheck]
	delete(f.Meta, metaCheck)
	var b bytes.Buffer
	err := f.Encode(&b)
	if was != "" {
		f.Meta[metaCheck] = was
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:]), err
}

// load returns the file, nil if there is none, or none that is whole and of this run.
func (p *partial) load() *safetensors.File {
	f, err := safetensors.Load(p.path())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	var sum string
	if err == nil {
		sum, err = checkOf(f)
	}
	if err != nil || sum != f.Meta[metaCheck] || f.Meta["run"] != p.r.folder.journal.SHA256(configFile) || f.Meta["name"] != p.name {
		progress.Or(p.r.opt.Progress).Note("the checkpoint of %s is damaged or another's; it begins anew", p.name)
		return nil
	}
	return f
}

// done removes the files of the named trainings or craftings, which a job that has ended has no use for.
func (r *run) done(names ...string) {
	for _, name := range names {
		_ = os.Remove((&partial{r: r, name: name}).path())
	}
}

// floats reads tensors into their destinations; false where one is not there.
func floats(f *safetensors.File, into map[string]*[]float32) bool {
	for name, dst := range into {
		t := f.Get(name)
		if t == nil {
			return false
		}
		v, err := t.Float32s()
		if err != nil {
			return false
		}
		*dst = v
	}
	return true
}

// whole reads a tensor of whole numbers; false where it is not there.
func whole(f *safetensors.File, name string, dst *[]int32) bool {
	t := f.Get(name)
	if t == nil {
		return false
	}
	v, err := t.Int64s()
	for _, x := range v {
		*dst = append(*dst, int32(x))
	}
	return err == nil
}

func vector(name string, v []float32) safetensors.Tensor {
	return safetensors.FromFloat32(name, v, len(v))
}

// training sets m and o to go on where a checkpoint stands, if there is one, and to make others.
func (p *partial) training(m *nn.Model, o *train.Options) {
	o.Due, o.Interrupt = p.due, p.stop
	o.Checkpoint = func(m *nn.Model, st train.State) error {
		return p.save(&safetensors.File{
			Meta: map[string]string{"epoch": strconv.Itoa(st.Epoch), "step": strconv.Itoa(st.Step)},
			Tensors: []safetensors.Tensor{vector("theta", m.Theta), vector("running", m.Running), vector("momentum", st.Momentum), vector("losses", st.Losses),
				safetensors.FromInt32("dropped", st.Dropped, len(st.Dropped))},
		})
	}
	f := p.load()
	if f == nil {
		return
	}
	var theta, running []float32
	st := &train.State{}
	var errs [2]error
	st.Epoch, errs[0] = strconv.Atoi(f.Meta["epoch"])
	st.Step, errs[1] = strconv.Atoi(f.Meta["step"])
	if errors.Join(errs[:]...) != nil || !floats(f, map[string]*[]float32{"theta": &theta, "running": &running, "momentum": &st.Momentum, "losses": &st.Losses}) ||
		!whole(f, "dropped", &st.Dropped) ||
		len(theta) != len(m.Theta) || len(running) != len(m.Running) {
		return
	}
	m.Theta, m.Running, o.Resume = theta, running, st
}

// crafting is what of attack.CraftState is no list of floats of the images' size.
type crafting struct {
	Restart int              `json:"restart"`
	Step    int              `json:"step"`
	Count   int              `json:"count"` // of poisons
	Trace   []float64        `json:"trace"`
	Done    []attack.Restart `json:"done"`
	Kept    int              `json:"kept"`
	Phi     float64          `json:"phi"`
}

// metaCrafting is where it stands.
const metaCrafting = "crafting"

// crafted returns what to give crafting of count poisons, so that it goes on where a checkpoint stands.
func (p *partial) crafted(count int) attack.CraftOptions {
	o := attack.CraftOptions{Due: p.due, Stop: p.stop, Checkpoint: func(st *attack.CraftState) error {
		text, err := strictjson.Marshal(crafting{st.Restart, st.Step, count, st.Trace, st.Done, st.Kept, st.Phi})
		if err != nil {
			return fmt.Errorf("checkpoint of %s: %w", p.name, err)
		}
		return p.save(&safetensors.File{Meta: map[string]string{metaCrafting: string(text)},
			Tensors: []safetensors.Tensor{vector("delta", st.Delta), vector("m", st.M), vector("v", st.V), safetensors.FromUint8("best", st.Best, len(st.Best))}})
	}}
	if c, f := p.count(); f != nil && c.Count == count {
		st := &attack.CraftState{Restart: c.Restart, Step: c.Step, Trace: c.Trace, Done: c.Done, Kept: c.Kept, Phi: c.Phi}
		if best := f.Get("best"); best != nil && floats(f, map[string]*[]float32{"delta": &st.Delta, "m": &st.M, "v": &st.V}) {
			st.Best = best.Data
			o.Resume = st
		}
	}
	return o
}

// count is where the checkpoint stands, nil if there is none.
func (p *partial) count() (c crafting, f *safetensors.File) {
	if f = p.load(); f != nil && strictjson.Unmarshal([]byte(f.Meta[metaCrafting]), &c) != nil {
		return c, nil
	}
	return c, f
}
