package attack

import (
	"fmt"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/usage"
)

// Memory is how much crafting may take on the device. It keeps the activations of as many chunks of
// poisons as there is room for, and lets the others pass twice.
type Memory struct {
	Limit int64 // bytes, of all that the jobs have there at once; 0: three quarters of what is free
	Jobs  int   // that share it; 0: 1

	Note func(format string, args ...any) // hears what was chosen, where there was a choice; nil: nobody does
}

// reserve is the part of the free memory that nobody counts on: others grow too.
const reserve = 4

// room is how many bytes more the job may take. Without a limit it may try for more.
func (m Memory) room(s *device.Stream) (int64, error) {
	if m.Limit > 0 {
		return m.Share() - s.InUse(), nil
	}
	free, err := s.Available()
	return (free - free/reserve) / m.jobs(), err
}

func (m Memory) jobs() int64 { return int64(max(m.Jobs, 1)) }

// Share is the limit of one job.
func (m Memory) Share() int64 { return m.Limit / m.jobs() }

// Refuse says that what needs at least so many bytes has no room inside of the limit.
func (m Memory) Refuse(what string, needs int64) error {
	if m.jobs() == 1 {
		return usage.Errorf("%s needs at least %s at once, and --memory is %s; raise it", what, device.Size(needs), device.Size(m.Limit))
	}
	return usage.Errorf("%s needs at least %s at once, and --memory, shared by %d jobs, has %s for each; raise it or lower --workers", what, device.Size(needs), m.Jobs, device.Size(m.Share()))
}

// A slot is memory for the activations of one chunk on one surrogate at a time, and for its gradient.
type slot struct {
	arena, grad device.Ptr
	nets        map[string]*nn.Net // by kind of surrogate
	e, chunk    int                // whose activations it holds; e is −1 if nobody's
}

// slots are the memory of a loop. With k of them the first k−1 chunks have their own, and the others pass
// through the last one, which in the end holds those of the last chunk.
type slots struct {
	l   *loop
	all []slot
}

func kind(f *field) string { return fmt.Sprint(f.Model.Spec) }

// newSlots allocates as many slots as are wanted and there is room for. A gradient has gradBytes.
func (l *loop) newSlots(gradBytes int) (*slots, error) {
	if err := l.s.Err(); err != nil {
		return nil, err
	}
	v, batch := l.v, l.chunks[0].n
	arena, scratch := 0, 0
	for _, f := range v.fields {
		a, w := nn.Needs(l.s, f.Model.Spec, batch, nn.Options{Precision: v.p.Precision, Mixed: true})
		arena, scratch = max(arena, a), max(scratch, w)
	}
	k, err := l.affordable(int64(arena+gradBytes), int64(scratch))
	if err != nil {
		return nil, err
	}
	t, work := &slots{l: l}, kernel.NewWorkspace(l.s, scratch)
	for range k {
		s := slot{arena: l.s.Alloc(arena), grad: l.s.Alloc(gradBytes), nets: map[string]*nn.Net{}, e: -1}
		for _, f := range v.fields {
			if s.nets[kind(f)] == nil {
				s.nets[kind(f)] = nn.NewNet(l.s, f.Model.Spec, batch,
					nn.Options{Precision: v.p.Precision, Mixed: true, Arena: s.arena, Work: work})
			}
		}
		t.all = append(t.all, s)
	}
	return t, l.s.Err()
}

// affordable is the number of slots of so many bytes each that there are to be.
func (l *loop) affordable(each, scratch int64) (int, error) {
	m, chunks := l.v.p.Memory, len(l.chunks)
	if l.v.cfg.Align == AlignBatch {
		chunks = 1 // one is done with before the next begins
	}
	room, err := m.room(l.s)
	if err != nil {
		return 0, err
	}
	fit := (room - scratch) / each
	if fit < 1 && m.Limit > 0 {
		return 0, m.Refuse("crafting", l.s.InUse()+each+scratch)
	}
	k := int(min(max(fit, 1), int64(chunks)))
	if m.Note != nil && chunks > 1 {
		if k == chunks {
			m.Note("crafting keeps all activations: %d × %s", k, device.Size(each))
		} else {
			m.Note("crafting keeps the activations of %d in %d batches of poisons (%s each) and computes the others' twice; with more memory it is faster", k, chunks, device.Size(each))
		}
	}
	return k, nil
}

// at is the slot that chunk i passes through.
func (t *slots) at(i int) *slot { return &t.all[min(i, len(t.all)-1)] }

// keeps reports whether chunk i's activations are still there when all chunks have passed.
func (t *slots) keeps(i int) bool { return i < len(t.all)-1 || i == len(t.l.chunks)-1 }

// holds reports whether the activations of chunk i on surrogate e are there now.
func (t *slots) holds(e, i int) bool { s := t.at(i); return s.e == e && s.chunk == i }

// forget makes every slot hold nothing.
func (t *slots) forget() {
	for i := range t.all {
		t.all[i].e = -1
	}
}

// use is the network that chunk i passes through on surrogate e, whose activations are there from now on.
func (t *slots) use(e, i int) *nn.Net {
	s := t.at(i)
	s.e, s.chunk = e, i
	return s.nets[kind(t.l.v.fields[e])]
}

// grad is where chunk i's gradient comes.
func (t *slots) grad(i int) device.Ptr { return t.at(i).grad }
