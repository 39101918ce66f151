package main

import "testing"

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"4GiB": 4 << 30, "1.5GB": 1500000000, "800MiB": 800 << 20, "64KiB": 65536, "2 TiB": 2 << 40, "7B": 7, "3kB": 0, "3KB": 3000,
		"4": 0, "": 0, "GiB": 0, "4Gi": 0, "4iB": 0, "4G": 0, "-1GiB": 0, "0GiB": 0, "nanGiB": 0, "infGiB": 0, "9999999999TiB": 0, "4GiBiB": 0, "4GMB": 0, "4BB": 0, "0.4B": 0,
	} {
		if got, ok := parseBytes(text); got != want || ok != (want > 0) {
			t.Errorf("%q is %d (%v), want %d", text, got, ok, want)
		}
	}
}
