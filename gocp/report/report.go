package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"io/fs"

	"github.com/gocp/gocp/gocp/result"
)

//go:embed report.html.tmpl
var page string

var reportTemplate = template.Must(template.New("report").Parse(page))

//go:embed style.css
var styleText string

// style is ours, not the user's: it may go into the page as it is.
var style = template.CSS(styleText)

// Write writes report.html. Pictures are read from fsys, the run folder; nil leaves them out. A
// picture that the result names and the folder does not have is an error.
func Write(w io.Writer, r *result.Result, fsys fs.FS) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	v, err := newView(r, fsys)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	v.Fig = map[string]template.HTML{}
	for _, d := range v.drawings() {
		v.Fig[d.name] = d.html()
	}
	var b bytes.Buffer // a template that fails half way must not leave half a page
	if err := reportTemplate.Execute(&b, v); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}
