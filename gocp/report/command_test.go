package report

import (
	"bytes"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/result"
)

func TestCommands(t *testing.T) {
	sum := strings.Repeat("0123456789abcdef", 4)
	a := &result.Command{Line: "python train.py --lr 0.1", Files: map[string]string{"train.py": sum}}
	other := &result.Command{Line: a.Line, Files: map[string]string{"train.py": "fedc" + sum[4:]}}
	for _, c := range []struct {
		victim, reference *result.Command
		want              string
	}{
		{nil, nil, ""},
		{a, a, "Victims and benign models were trained by the command python train.py --lr 0.1; train.py is 0123456789ab."},
		{a, other, "Victims were trained by the command python train.py --lr 0.1; train.py is 0123456789ab. Benign models were trained by the command python train.py --lr 0.1; train.py is fedc456789ab."},
		{a, &result.Command{Line: "rforest"}, "Victims were trained by the command python train.py --lr 0.1; train.py is 0123456789ab. Benign models were trained by the command rforest."},
	} {
		r, _ := made("overconfidence", 3, 4, 1)
		r.Config.VictimCommand, r.Config.ReferenceCommand = c.victim, c.reference
		var b bytes.Buffer
		if err := Text(&b, r); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(strings.Fields(b.String()), " ")
		if c.want == "" && strings.Contains(text, "by the command") || !strings.Contains(text, c.want) {
			t.Errorf("%q is not in\n%s", c.want, b.String())
		}
	}
}
