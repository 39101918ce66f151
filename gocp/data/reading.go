package data

// A Reading says how a set is read. The zero value takes it as it lies there.
type Reading struct {
	// Test names the split that models are tested on; "" takes test, or val where there is no test.
	Test string `json:"test,omitempty"`
	// SkipUnreadable leaves out image files that cannot be read, which are an error otherwise.
	SkipUnreadable bool `json:"skip_unreadable,omitempty"`
	// Coarse takes the 20 superclasses of CIFAR-100 as labels instead of its 100 classes.
	Coarse bool `json:"coarse,omitempty"`
	// Resize scales images, as torchvision's Resize does with PIL images, and then Crop keeps their
	// middle, as its CenterCrop does.
	Resize Size `json:"resize,omitzero"`
	Crop   Size `json:"crop,omitzero"`
}

// A Ref names a set, known or by its path, and says how it is read.
type Ref struct {
	Name    string
	Reading Reading
}

// Open reads the set.
func (r Ref) Open() (*Source, error) { return r.Reading.Open(r.Name) }

// Open reads the set of a known name, or what lies at a path.
func Open(nameOrPath string) (*Source, error) { return Reading{}.Open(nameOrPath) }

// Open is the function Open, with images read as r says.
func (r Reading) Open(nameOrPath string) (*Source, error) {
	s, err := r.open(nameOrPath)
	if err != nil {
		return nil, err
	}
	if r.Test != "" {
		// A set read twice may be shared; its test split is this reader's alone.
		own := *s
		own.test = splitName(r.Test)
		if _, err := own.Need(own.test); err != nil {
			return nil, err
		}
		s = &own
	}
	return s, nil
}
