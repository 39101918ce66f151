package trainer

import (
	"errors"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/gocp/gocp/gocp/usage"
)

// Split takes a line such as python train.py --note 'two words' apart into words: quotes and
// backslashes are a shell's. What only a shell could do (variables, patterns, pipes, several commands,
// redirections, comments) is a usage error that shows the piece and its column.
func Split(line string) ([]string, error) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX), syntax.KeepComments(true)).Parse(strings.NewReader(line), "")
	var wrong syntax.ParseError
	switch {
	case errors.As(err, &wrong):
		return nil, usage.Errorf("%q is no command: %s at column %d", line, wrong.Text, wrong.Pos.Col())
	case err != nil:
		return nil, usage.Errorf("%q is no command: %w", line, err)
	case len(file.Stmts) == 0 && len(file.Last) == 0:
		return nil, usage.Errorf("%q is no command: there is no word in it", line)
	}
	for _, comments := range [][]syntax.Comment{file.Last, firstComments(file)} {
		for _, c := range comments {
			return nil, needsShell(line, &c)
		}
	}
	if len(file.Stmts) > 1 {
		return nil, needsShell(line, file.Stmts[1])
	}
	s := file.Stmts[0]
	call, ok := s.Cmd.(*syntax.CallExpr)
	switch {
	case !ok || s.Negated || s.Background:
		return nil, needsShell(line, s)
	case len(s.Redirs) > 0:
		return nil, needsShell(line, s.Redirs[0])
	case len(call.Assigns) > 0:
		return nil, needsShell(line, call.Assigns[0])
	}
	var words []string
	for _, w := range call.Args {
		word, err := plain(line, w)
		if err != nil {
			return nil, err
		}
		words = append(words, word)
	}
	if words[0] == "" {
		return nil, usage.Errorf("%q is no command: its first word, the program, is empty", line)
	}
	return words, nil
}

func firstComments(f *syntax.File) []syntax.Comment {
	if len(f.Stmts) == 0 {
		return nil
	}
	return f.Stmts[0].Comments
}

// needsShell is the error for a piece of a line that only a shell understands.
func needsShell(line string, n syntax.Node) error {
	from, to := min(int(n.Pos().Offset()), len(line)), min(int(n.End().Offset()), len(line))
	return usage.Errorf("%q would need a shell for %q at column %d, and none reads it; quote it if it is meant as it stands, or put it into a script and name that", line, line[from:to], n.Pos().Col())
}

// plain is what a word says if nothing in it is to be expanded.
func plain(line string, w *syntax.Word) (string, error) {
	var b strings.Builder
	for i, part := range w.Parts {
		switch p := part.(type) {
		case *syntax.Lit:
			if i == 0 && strings.HasPrefix(p.Value, "~") {
				return "", needsShell(line, p)
			}
			text, pattern := unescape(p.Value, func(byte) bool { return true })
			if pattern {
				return "", needsShell(line, p)
			}
			b.WriteString(text)
		case *syntax.SglQuoted:
			if p.Dollar {
				return "", needsShell(line, p)
			}
			b.WriteString(p.Value)
		case *syntax.DblQuoted:
			for _, inner := range p.Parts {
				lit, ok := inner.(*syntax.Lit)
				if !ok || p.Dollar {
					return "", needsShell(line, inner)
				}
				text, _ := unescape(lit.Value, func(c byte) bool { return strings.IndexByte("$`\"\\\n", c) >= 0 })
				b.WriteString(text)
			}
		default:
			return "", needsShell(line, p)
		}
	}
	return b.String(), nil
}

// unescape takes the backslashes away from before what they quote; pattern tells whether a character
// that a shell would hold against file names stands without one.
func unescape(s string, quotes func(byte) bool) (text string, pattern bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && quotes(s[i+1]):
			i++
			if s[i] != '\n' { // which continues the line
				b.WriteByte(s[i])
			}
		default:
			pattern = pattern || strings.IndexByte("*?[", c) >= 0
			b.WriteByte(c)
		}
	}
	return b.String(), pattern
}

// Line is words as a line that Split takes apart again.
func Line(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if quoted[i] = w; w == "" || strings.Trim(w, bare) != "" {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// bare are the characters that mean nothing to a shell.
const bare = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%"
