package trainer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gocp/gocp/gocp/usage"
)

// A Command is a program and its arguments, ready to be started in another folder.
type Command struct {
	Words []string // those that name files have their whole path
	Files []File   // the files
}

// File is a file that a word of a command names.
type File struct {
	Word   int    `json:"word"` // its position, the program's is 0
	SHA256 string `json:"sha256"`
}

// Resolve finds what words mean in the folder that gocp was started in: a word that names a file there
// is replaced by its whole path, and the file is hashed. A program without a slash is one of the PATH.
// A command that cannot be started is a usage error.
func Resolve(words []string) (Command, error) {
	if len(words) == 0 {
		return Command{}, usage.Errorf("the command has no word")
	}
	c := Command{Words: append([]string(nil), words...)}
	for i, w := range words {
		if strings.IndexByte(w, 0) >= 0 {
			return Command{}, usage.Errorf("the command's word %q holds a zero byte", w)
		}
		if i == 0 && !strings.Contains(w, "/") {
			continue
		}
		info, err := os.Stat(w)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if c.Words[i], err = filepath.Abs(w); err != nil {
			return Command{}, fmt.Errorf("%s: %w", w, err)
		}
		sum, err := hash(w)
		if err != nil {
			return Command{}, usage.Errorf("the command's file %s: %w", w, err)
		}
		c.Files = append(c.Files, File{i, sum})
	}
	if _, err := exec.LookPath(c.Words[0]); err != nil {
		return Command{}, usage.Errorf("the command's program %s cannot be started: %w", words[0], unwrapped(err))
	}
	return c, nil
}

// unwrapped is what exec says without repeating the name.
func unwrapped(err error) error {
	if e, ok := err.(*exec.Error); ok {
		return e.Err
	}
	return err
}

func hash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Names are the words with files by their last names: what is the same on another machine.
func (c Command) Names() []string {
	out := append([]string(nil), c.Words...)
	for _, f := range c.Files {
		out[f.Word] = filepath.Base(out[f.Word])
	}
	return out
}

// String is the command as a line, files by their last names.
func (c Command) String() string { return Line(c.Names()) }
