package result

// Filtered is what filters say of a training set.
type Filtered struct {
	Samples int          `json:"samples"`
	Columns int          `json:"features"` // of a sample
	Poisons int          `json:"poisons_reckoned_with"`
	Classes []int        `json:"class_sizes"`
	Names   []string     `json:"class_names,omitempty"`
	Model   string       `json:"model_sha256,omitempty"` // that the features are of, if it is one of ours
	Methods []FilteredBy `json:"methods"`
}

// FilteredBy is what one filter says.
type FilteredBy struct {
	Method  string    `json:"method"`
	Source  string    `json:"source"`
	Says    string    `json:"rule"`
	ByClass []int     `json:"dropped_by_class"`
	Flagged []Flagged `json:"flagged"`
	Known   *Found    `json:"known,omitempty"`
}

// Flagged is a sample that a filter drops.
type Flagged struct {
	Sample int     `json:"sample"` // position in the set, or in the split of a data set
	Label  int     `json:"label"`
	Rank   int     `json:"rank"` // from 1 among those that this filter drops, by falling score
	Score  float64 `json:"score"`
	Reason string  `json:"reason"`
}

// Found is how a filter does where the poisons are known.
type Found struct {
	Poisons        int     `json:"poisons"`
	PoisonsDropped int     `json:"poisons_dropped"`
	CleanDropped   int     `json:"clean_dropped"`
	Precision      float64 `json:"precision"` // of the dropped ones; 0 of none
	Recall         float64 `json:"recall"`
	AUC            float64 `json:"auc"` // probability that a poison's score is above a clean sample's, ties half
	ROC            []Cut   `json:"roc"`
}

// A Cut is what dropping all samples with at least some score does.
type Cut struct {
	Clean   float64 `json:"clean"`   // share of the clean samples that go
	Poisons float64 `json:"poisons"` // share of the poisons that go
}
