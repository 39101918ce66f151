// Package store keeps finished pieces of work where several runs find them: files under a key, which is
// a hash of all that determines their bytes.
//
// An entry is a folder KEY[:2]/KEY with the files and contents.json, their names, sizes and SHA-256. It
// takes its name when it is whole, by one rename, so that several processes may fill a store at once,
// also on a shared file system. Files are linked where that can be, else copied; they are checked when
// they are taken, and an entry that was damaged is thrown away. Whoever puts other files under a key
// that is taken is told so: his key does not hold all that it should.
package store
