package trainer

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/usage"
)

func TestSplit(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Log("no sh here: the words are not held against it")
	}
	for line, want := range map[string][]string{
		`python train.py`:                               {"python", "train.py"},
		"  python\ttrain.py  --lr  0.1 ":                {"python", "train.py", "--lr", "0.1"},
		`python 'my train.py' "two words" a\ b`:         {"python", "my train.py", "two words", "a b"},
		`p --x='a b'"c d"e`:                             {"p", "--x=a bc de"},
		`p "say \"hi\" \\ \$HOME \n" '\n $HOME "'`:      {"p", `say "hi" \ $HOME \n`, `\n $HOME "`},
		`p \*.py '*' "[a]?" \; \# a#b a~ '~'`:           {"p", "*.py", "*", "[a]?", ";", "#", "a#b", "a~", "~"},
		`p '' "" -`:                                     {"p", "", "", "-"},
		"p a\\\nb \"c\\\nd\"":                           {"p", "ab", "cd"},
		`p {a,b} a=b ! Grün`:                            {"p", "{a,b}", "a=b", "!", "Grün"},
		`/opt/py/bin/python3 -u train.py --width 8 - .`: {"/opt/py/bin/python3", "-u", "train.py", "--width", "8", "-", "."},
	} {
		got, err := Split(line)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", line, got, err, want)
			continue
		}
		again, err := Split(Line(got))
		if err != nil || !slices.Equal(again, want) {
			t.Errorf("%s: as a line %s, and from there %q, %v", line, Line(got), again, err)
		}
		if sh != "" {
			out, err := exec.Command(sh, "-c", "p() { printf '%s\\0' \"$@\"; }; p "+line).Output()
			if err != nil || string(out) != strings.Join(want, "\x00")+"\x00" {
				t.Errorf("%s: sh reads %q, %v", line, out, err)
			}
		}
	}
}

func TestSplitRefusesWhatNeedsAShell(t *testing.T) {
	for line, want := range map[string]string{
		``:                    "there is no word",
		`   `:                 "there is no word",
		`'' a`:                "the program, is empty",
		`p 'a`:                "is no command: ",
		`p "a`:                "is no command: ",
		`p )`:                 "is no command: ",
		`p | tee log`:         `a shell for "p | tee log"`,
		`p; q`:                `a shell for "q" at column 4`,
		`p && q`:              "a shell",
		`p &`:                 "a shell",
		`! p`:                 "a shell",
		`p > log`:             `a shell for "> log" at column 3`,
		`p 2>&1`:              "a shell",
		`A=1 p`:               `a shell for "A=1"`,
		`A=1`:                 `a shell for "A=1"`,
		`p $HOME`:             `a shell for "$HOME" at column 3`,
		`p "a${B}c"`:          `a shell for "${B}"`,
		"p `date`":            "a shell",
		`p $(date)`:           "a shell",
		`p $((1+1))`:          "a shell",
		`p *.py`:              `a shell for "*.py"`,
		`p a?`:                "a shell",
		`p [ab]`:              "a shell",
		`p ~/train.py`:        `a shell for "~/train.py"`,
		`p # why`:             `a shell for "# why"`,
		`# why`:               "a shell",
		"p\nq":                `a shell for "q"`,
		`(p)`:                 "a shell",
		`if true; then p; fi`: "a shell",
		"cat <<E\nx\nE\n":     "a shell",
	} {
		words, err := Split(line)
		if !usage.Is(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want %q", line, words, err, want)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add(`python 'my train.py' "a\"b" c\ d`)
	f.Add("p $A # b")
	f.Fuzz(func(t *testing.T, line string) {
		words, err := Split(line)
		if err != nil {
			return
		}
		again, err := Split(Line(words))
		if err != nil || !slices.Equal(again, words) {
			t.Errorf("%q: %q, as a line %q, and from there %q, %v", line, words, Line(words), again, err)
		}
	})
}
