package attack

// Crafting is what the crafting loop saw on the surrogates.
type Crafting struct {
	Restarts []Restart `json:"restarts,omitempty"` // none where pixels do not change
	Best     int       `json:"best"`               // the restart kept: the greatest Φ on the 8-bit grid
	Phi      float64   `json:"phi"`                // its Φ, mean over surrogates, on the 8-bit grid
	L2       float64   `json:"l2"`                 // ℓ2 on the surrogates, mean
	L3       float64   `json:"l3"`                 // ℓ3, mean
	Solves   []Solve   `json:"solves,omitempty"`   // of second order, one for each surrogate
	Rounds   []Round   `json:"rounds,omitempty"`   // of turning labels

	Lookahead *Lookahead `json:"lookahead,omitempty"` // of metapoison; Best is then that of the least loss

	// After one training step with these images in place: see Solver.Step.
	Clean  After `json:"after_clean"`  // the clean images that the poisons replace
	Attack After `json:"after_attack"` // the poisons
	Noise  After `json:"after_noise"`  // noise on the same images
}

// Restart is one run of the crafting loop.
type Restart struct {
	Seed  uint64    `json:"seed"`
	Phi   []float64 `json:"phi"`   // Φ before each step, mean over surrogates
	Final float64   `json:"final"` // Φ on the 8-bit grid

	// Loss is that of metapoison before each step, mean over its surrogates; Final is that on the 8-bit grid then, and there is
	// no Φ.
	Loss []float64 `json:"loss,omitempty"`
}

// After is the adversary's loss after one training step, mean over surrogates.
type After struct {
	L2 float64 `json:"l2"`
	L3 float64 `json:"l3"`
}
