package experiment

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/usage"
)

func TestKMeansFindsWhatLiesApart(t *testing.T) {
	src := rng.New(1, 2)
	var rows [][]float64
	for i := range 90 {
		c := float64(i % 3)
		rows = append(rows, []float64{10*c + float64(src.Normal()), -7*c + float64(src.Normal())})
	}
	centres := kMeans(rows, 3, 5)
	var of [3]int
	for i := range of {
		of[i], _ = closest(rows[i], centres)
	}
	if of[0] == of[1] || of[1] == of[2] || of[0] == of[2] {
		t.Fatalf("three clusters became %v", of)
	}
	for i, x := range rows {
		if c, _ := closest(x, centres); c != of[i%3] {
			t.Errorf("row %d of cluster %d is in %d", i, of[i%3], c)
		}
	}
	for c := range 3 { // Lloyd's rule has come to rest: centres are means
		var sum [2]float64
		for i := c; i < len(rows); i += 3 {
			sum[0], sum[1] = sum[0]+rows[i][0]/30, sum[1]+rows[i][1]/30
		}
		if m := centres[of[c]]; max(m[0]-sum[0], sum[0]-m[0], m[1]-sum[1], sum[1]-m[1]) > 1e-9 {
			t.Errorf("centre %v, mean %v", m, sum)
		}
	}
	if again := kMeans(rows, 3, 5); fmt.Sprint(again) != fmt.Sprint(centres) {
		t.Errorf("%v, then %v", centres, again)
	}
}

func divided(by string) Config {
	c := tiny()
	c.Goal, c.Subgroups, c.Targets, c.Repeats = attack.GoalConfig{Name: "unequal"}, Subgroups{By: by}, 3, 2
	return c
}

// Coverage by subgroup is of the test images that are no targets; where subgroups are classes it is that of classes.
func TestUnequal(t *testing.T) {
	dev := testkit.Open(t)
	file := filepath.Join(t.TempDir(), "groups.csv")
	var lines []string
	for i := range 160 {
		lines = append(lines, fmt.Sprint(i%3))
	}
	write := func(lines []string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write(lines)
	for by, clusters := range map[string]int{SubgroupClasses: 0, SubgroupClusters: 3, file: 0} {
		c := divided(by)
		if c.Subgroups.Clusters = clusters; by == SubgroupClasses {
			c.Craft = attack.Config{Poison: attack.PoisonLabels}
		}
		dir := filepath.Join(t.TempDir(), "run")
		res := audit(t, dev, c, dir)
		names := res.Config.Subgroups.Names
		seen := map[int]bool{}
		for _, rep := range res.Repeats {
			if seen[*rep.Subgroup] {
				t.Errorf("%s: subgroup %d is attacked twice", by, *rep.Subgroup)
			}
			seen[*rep.Subgroup] = true
			for _, target := range rep.Targets {
				switch {
				case by == SubgroupClasses && target.Label != *rep.Subgroup,
					by == file && (!strings.HasPrefix(target.Why, "test image") || target.ID%3 != *rep.Subgroup):
					t.Errorf("%s: target %+v of subgroup %d", by, target, *rep.Subgroup)
				}
				if want := []result.Attacked{{Label: target.Label, Role: result.RoleRemove}}; !slices.Equal(target.Attacked, want) {
					t.Errorf("%s: attacked labels %+v of a target of class %d", by, target.Attacked, target.Label)
				}
			}
			for _, v := range rep.Victims {
				var all result.PerGroup
				for g, p := range v.Test.Groups {
					if by == SubgroupClasses && (p.N != v.Test.Classes[g].N || p.Covered != v.Test.Classes[g].Covered) {
						t.Errorf("subgroup %d: %+v, as a class %+v", g, p, v.Test.Classes[g])
					}
					all.N, all.Covered, all.Correct = all.N+p.N, all.Covered+p.Covered, all.Correct+p.Correct
				}
				if all.N != v.Test.N || all.Covered != v.Test.Covered || all.Correct != v.Test.Correct || len(v.Test.Groups) != len(names) {
					t.Errorf("%s: subgroups together %+v, all %+v", by, all, v.Test)
				}
			}
		}
		if res.Summary.Row(result.Attack).Subgroup == nil {
			t.Errorf("%s: the summary has no subgroup", by)
		}
		if _, err := result.Load(dir); err != nil {
			t.Error(err)
		}
		if _, err := Export(dir, tinyData(t)); err != nil {
			t.Errorf("%s: %v", by, err)
		}
		if by != file {
			continue
		}
		lines[0] = "1"
		write(lines)
		if _, err := Export(dir, tinyData(t)); !usage.Is(err) || !strings.Contains(err.Error(), "its hash has changed") {
			t.Errorf("a changed file: %v", err)
		}
	}
	for text, lines := range map[string][]string{"has 2 rows": {"0", "1"}, "groups are numbers from 0": slices.Repeat([]string{"-1"}, 160)} {
		write(lines)
		if _, err := prepare(divided(file), tinyData(t)); !usage.Is(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := prepare(divided(SubgroupCoarse), tinyData(t)); !usage.Is(err) || !strings.Contains(err.Error(), "none of CIFAR-100") {
		t.Errorf("coarse classes of noise: %v", err)
	}
}

func TestSubgroupErrors(t *testing.T) {
	unequal := attack.GoalConfig{Name: "unequal"}
	for text, c := range map[string]Config{
		"subgroups do nothing here":          {Subgroups: Subgroups{By: SubgroupClasses}},
		"a number of clusters does nothing":  {Goal: unequal, Subgroups: Subgroups{By: SubgroupClasses, Clusters: 3}},
		"1 clusters of 4500 training images": {Goal: unequal, Subgroups: Subgroups{Clusters: 1}},
	} {
		if err := c.WithDefaults().Validate(); !usage.Is(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
	c := Config{Goal: unequal}.WithDefaults()
	if err := c.Validate(); err != nil || c.Subgroups.Clusters != 20 || c.Targets != 16 || c.Repeats != 6 || c.Craft.Bases != attack.BasesNearest {
		t.Errorf("%+v: %v", c, err)
	}
}
