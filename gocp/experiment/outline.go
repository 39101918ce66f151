package experiment

import "sync"

// An Outline is what an audit would do.
type Outline struct {
	// Benign are the keys of its benign models: audits of one store share those with equal ones.
	// "" is a model that is not shared, because a command trains it.
	Benign  []string
	Poisons int // sets to craft
	Victims int
}

// NewOutline checks c against the data as Audit does before it begins, without a device, and says what
// there is to do.
func NewOutline(c Config, d Data) (*Outline, error) {
	r, err := prepare(c, d)
	if err != nil {
		return nil, err
	}
	r.asked = sync.OnceValue(func() string { return digest(r.split.whole.Images, false) })
	o := &Outline{Poisons: r.cfg.Repeats}
	counts := map[string]int{roleSurrogate: r.cfg.Surrogates, roleReference: r.cfg.References}
	if r.hasControls() {
		counts[roleControl] = r.cfg.Controls
	}
	for role, n := range counts {
		for i := range n {
			j := r.benign(role, i)
			if j.command != nil {
				o.Benign = append(o.Benign, "")
				continue
			}
			images, _, err := j.images()
			if err != nil {
				return nil, err
			}
			key, err := r.modelKey(j, images, nil)
			if err != nil {
				return nil, err
			}
			o.Benign = append(o.Benign, key)
		}
	}
	for _, cond := range r.cfg.Conditions {
		o.Victims += r.cfg.Repeats * r.victims(cond)
	}
	return o, nil
}
