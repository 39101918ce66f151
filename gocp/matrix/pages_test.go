package matrix

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"github.com/gocp/gocp/gocp/usage"
)

// TestCheckPages: a page that claims more than its file can hold is refused before the decoder gets room
// for it, as is a text of any length in its header.
func TestCheckPages(t *testing.T) {
	page := func(uncompressed, values int32) []byte {
		h := format.PageHeader{Type: format.DataPage, UncompressedPageSize: uncompressed, CompressedPageSize: 8}
		h.DataPageHeader.Valid = true
		h.DataPageHeader.V.NumValues = values
		b, err := thrift.Marshal(new(thrift.CompactProtocol), &h)
		if err != nil {
			t.Fatal(err)
		}
		return append(b, make([]byte, 8)...)
	}
	long := page(8, 2)
	long = append(long[:len(long)-9:len(long)-9], 0x18+0x40, 0xff, 0xff, 0xff, 0xff, 0x07) // a field of 2³¹−1 bytes
	for _, c := range []struct {
		name, refused string
		content       []byte
		values        int64
	}{
		{"two pages", "", append(page(8, 2), page(8, 3)...), 5},
		{"bytes", "a page claims", page(1<<31-1, 2), 2},
		{"values", "a page claims", page(8, 1<<31-1), 1 << 31},
		{"the second", "a page claims", append(page(8, 2), page(1<<31-1, 3)...), 5},
		{"damaged", "is damaged", append(page(8, 2), 0xff, 0xff, 0xff), 5},
		{"a long text", "is damaged", long, 5},
	} {
		path := filepath.Join(t.TempDir(), "a")
		if err := os.WriteFile(path, c.content, 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		size := int64(len(c.content))
		got := allocated(func() {
			err = checkPages(f, size, &format.ColumnMetaData{NumValues: c.values, TotalCompressedSize: size})
		})
		if (err != nil) != (c.refused != "") || err != nil && (!usage.Is(err) || !strings.Contains(err.Error(), c.refused)) || got > 1<<20 {
			t.Errorf("%s: %v, %d bytes allocated; want %q", c.name, err, got, c.refused)
		}
		if checkPages(f, size, &format.ColumnMetaData{NumValues: 1, TotalCompressedSize: size + 1}) == nil {
			t.Errorf("%s: pages beyond the end of the file went through", c.name)
		}
		f.Close()
	}
}

// A file's end that claims more metadata than there are bytes is refused before the decoder makes room for it.
func TestFooterThatClaimsTooMuch(t *testing.T) {
	for _, c := range []struct {
		name    string
		claimed byte
		refused bool
	}{{"fits", 8, false}, {"one too many", 9, true}, {"as many as the file", 20, true}} {
		content := append([]byte("PAR1"), make([]byte, 8)...)
		content = append(content, c.claimed, 0, 0, 0, 'P', 'A', 'R', '1')
		path := filepath.Join(t.TempDir(), "a.parquet")
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		err = checkFooter(f, int64(len(content)))
		if (err != nil) != c.refused || err != nil && (!usage.Is(err) || !strings.Contains(err.Error(), "cut off or damaged")) {
			t.Errorf("%s: %v", c.name, err)
		}
		f.Close()
	}
}
