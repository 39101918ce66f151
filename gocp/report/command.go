package report

import (
	"fmt"
	"maps"
	"slices"

	"github.com/gocp/gocp/gocp/result"
)

// shownDigits of a hash are enough to tell two files apart; the whole of it is in result.json.
const shownDigits = 12

// commandText is a command with the beginning of its files' hashes, nothing for none.
func commandText(c *result.Command) string {
	if c == nil {
		return ""
	}
	text := "by the command " + c.Line
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		text += fmt.Sprintf("; %s is %.*s", name, shownDigits, c.Files[name])
	}
	return text
}

// trainedBy says by which commands models were trained in gocp's place, nothing where gocp trained all.
func trainedBy(c *result.Config) string {
	switch v, r := c.VictimCommand, c.ReferenceCommand; {
	case v == nil:
		return ""
	case r == nil || r.Line == v.Line && maps.Equal(r.Files, v.Files):
		return "Victims and benign models were trained " + commandText(v) + "."
	default:
		return fmt.Sprintf("Victims were trained %s. Benign models were trained %s.", commandText(v), commandText(r))
	}
}
