package main

import (
	"path/filepath"
	"syscall"
	"testing"
)

// smallDisk is a folder on a disk of 64 KiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := syscall.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no disk can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	dir := workFolder(t)
	disk := smallDisk(t)
	const full = "no space left on device"
	t.Run("export", func(t *testing.T) {
		refuses(t, dir, full, "data", "export", "blobs.npz", "--out", filepath.Join(disk, "x.npz"))
	})
	t.Run("train", func(t *testing.T) {
		refuses(t, dir, full, "train", "--quiet", "--data", "blobs.npz", "--width", "64", "--epochs", "1", "--out", filepath.Join(disk, "m.safetensors"))
	})
	t.Run("audit", func(t *testing.T) {
		refuses(t, dir, full, append(tinyAudit[:len(tinyAudit):len(tinyAudit)], "--quiet", "--out", filepath.Join(disk, "run"))...)
	})
	if left := listing(t, filepath.Join(disk)); left != "" {
		t.Logf("left on the disk:\n%s", left)
	}
}
