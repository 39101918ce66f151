package matrix

import (
	"encoding/binary"
	"io"
	"os"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"github.com/gocp/gocp/gocp/usage"
)

// How much pages may claim, beyond so much for every byte of the file: deflate expands 1032 times, and no
// writer makes pages of more than 100 MB or a group of rows unless the rows are long.
const (
	pageBytes  = 64 << 20
	pageValues = 4 << 20
	expansion  = 1040
)

// checkFooter looks at the length that a file's end claims for its metadata, for which the decoder gets room.
func checkFooter(f *os.File, size int64) error {
	end := make([]byte, 8)
	if size < 8 {
		return nil // the decoder says so
	}
	if _, err := f.ReadAt(end, size-8); err != nil {
		return err
	}
	if n := int64(binary.LittleEndian.Uint32(end)); string(end[4:]) == "PAR1" && n > size-12 {
		return usage.Errorf("not a valid Parquet file: its end claims %d bytes of metadata, and the file has %d; it is cut off or damaged", n, size)
	}
	return nil
}

// checkPages reads the headers of a column's pages, which the decoder believes: it allocates what they
// claim.
func checkPages(f *os.File, size int64, m *format.ColumnMetaData) error {
	at := m.DataPageOffset
	if d := m.DictionaryPageOffset; d > 0 && d < at {
		at = d
	}
	if at < 0 || m.TotalCompressedSize < 0 || at > size || m.TotalCompressedSize > size-at {
		return usage.Errorf("its pages lie beyond the end of the file; it is cut off or damaged")
	}
	values, end := int64(0), at+m.TotalCompressedSize
	for at < end && values < m.NumValues {
		h, length, err := pageHeader(f, at, end)
		if err != nil {
			return err
		}
		n := int64(0)
		switch {
		case h.DataPageHeader.Valid:
			n = int64(h.DataPageHeader.V.NumValues)
		case h.DataPageHeaderV2.Valid:
			n = int64(h.DataPageHeaderV2.V.NumValues)
		case h.DictionaryPageHeader.Valid:
			values -= int64(h.DictionaryPageHeader.V.NumValues) // no values of rows
			n = int64(h.DictionaryPageHeader.V.NumValues)
		}
		values += n
		bytes := int64(h.UncompressedPageSize)
		if n < 0 || bytes < 0 || h.CompressedPageSize < 0 || bytes > pageBytes+expansion*size || n > pageValues+expansion*size {
			return usage.Errorf("a page claims %d values in %d bytes, which a file of %d does not hold; it is damaged", n, bytes, size)
		}
		if at += length + int64(h.CompressedPageSize); at > size {
			return usage.Errorf("a page claims %d bytes, which lie beyond the end of the file; it is cut off or damaged", h.CompressedPageSize)
		}
	}
	return nil
}

// pageHeader reads the header at some place, and tells how long it is. It lies in the bytes that are read
// first, or in so many as no header needs: a text in it may claim any length.
func pageHeader(f *os.File, at, end int64) (h *format.PageHeader, n int64, err error) {
	for _, most := range []int64{512, 1 << 16} {
		b := make([]byte, min(most, end-at))
		if _, err := f.ReadAt(b, at); err != nil && err != io.EOF {
			return nil, 0, err
		}
		h = new(format.PageHeader)
		r := new(thrift.CompactProtocol).NewReaderFromBytes(b)
		if err = thrift.NewDecoder(r).Decode(h); err == nil {
			rest, err := io.Copy(io.Discard, r.Reader())
			return h, int64(len(b)) - rest, err
		}
	}
	return nil, 0, usage.Errorf("the header of a page is damaged: %w", err)
}
