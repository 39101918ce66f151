package experiment

import (
	"bytes"
	"slices"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/strictjson"
)

// Kinds are the networks of the surrogates, which take turns: surrogate i is of kind i modulo their
// number. In JSON several are a list, one stands alone.
type Kinds []Model

func (k Kinds) MarshalJSON() ([]byte, error) {
	if len(k) == 1 {
		return strictjson.Marshal(k[0])
	}
	return strictjson.Marshal([]Model(k))
}

func (k *Kinds) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")) {
		return strictjson.UnmarshalKnown(b, (*[]Model)(k))
	}
	*k = make(Kinds, 1)
	return strictjson.UnmarshalKnown(b, &(*k)[0])
}

// withDefaults takes what is left out from the victims' network.
func (k Kinds) withDefaults(victim Model) Kinds {
	if k = slices.Clone(k); len(k) == 0 {
		k = make(Kinds, 1)
	}
	for i := range k {
		k[i] = k[i].or(victim).withDefaults()
	}
	return k
}

// archs are the kinds' architectures.
func (k Kinds) archs() []string {
	var names []string
	for _, m := range k {
		names = append(names, m.Arch)
	}
	return names
}

// specs are the networks, with the normalisation of their training images.
func (k Kinds) specs(images attack.Images, classes int) ([]nn.Spec, error) {
	var specs []nn.Spec
	for _, m := range k {
		s := m.spec(images, classes)
		if err := s.Validate(); err != nil {
			return nil, err
		}
		specs = append(specs, s)
	}
	return specs, nil
}

// surrogate is the network and the training of surrogate i.
func (r *run) surrogate(i int) (nn.Spec, Train) {
	s := r.surrogateSpecs[i%len(r.surrogateSpecs)]
	return s, r.cfg.SurrogateTrain.of(s.Arch)
}
