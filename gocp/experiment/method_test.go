package experiment

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/usage"
)

// Every method has the same targets, budget and ball, and a report.
func TestMethods(t *testing.T) {
	dev := testkit.Open(t)
	c := tiny()
	c.Repeats, c.Victims, c.GaussVictims = 1, 1, 1
	targets := map[string]int{}
	for _, method := range attack.MethodNames() {
		c.Craft = attack.Config{Method: method, Steps: 2}
		if method == attack.MethodMetaPoison {
			c.Craft.Meta = attack.MetaPoison{Ages: 2, Unroll: 2}
		}
		dir := filepath.Join(t.TempDir(), method)
		r := audit(t, dev, c, dir)
		p := r.Repeats[0].Poisons
		targets[method] = r.Repeats[0].Targets[0].ID
		if r.Config.Craft.Method != method || p.Count != 16 || p.MaxAbs > 16 || targets[method] != targets[attack.MethodAlignment] {
			t.Errorf("%s: target %d, %+v", method, targets[method], p)
		}
		if (p.Lookahead != nil) != (method == attack.MethodMetaPoison) || (r.Repeats[0].Targets[0].Adversarial != nil) != (method == attack.MethodWitchesBrew) {
			t.Errorf("%s: %+v of %+v", method, p, r.Repeats[0].Targets[0])
		}
	}
	c = Config{Budget: BudgetAuto, Craft: attack.Config{Method: attack.MethodWitchesBrew}}.WithDefaults()
	if err := c.Validate(); !usage.Is(err) || !strings.Contains(err.Error(), "budget auto") {
		t.Errorf("budget auto: %v", err)
	}
}
