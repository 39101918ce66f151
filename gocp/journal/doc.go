// Package journal keeps the size and the SHA-256 of every file of a folder that a long run fills, so
// that whoever goes on with the run can tell what is whole from what was damaged meanwhile.
//
// The journal is journal.jsonl in that folder, one JSON object a line:
//
//	{"file":"models/surrogate-0.safetensors","size":41232,"sha256":"…","check":"1a2b3c4d"}
//
// A line is appended when its file has been written, and is on the disk before the next piece of work
// begins. check is over the rest of the line: one that a killed process left unfinished, or that was
// damaged itself, is passed over, and its file counts as one that the journal does not know. Of two
// lines of a file the later counts.
//
// Shards of a run, which work side by side, have a journal each, shards/NAME.journal.jsonl: no file has two
// writers. Whoever reads a journal reads them all, and [Open] joins them.
//
// Nobody who may change the journal as well is kept from anything: it is there against full disks,
// bad disks and files that were cut, not against people.
package journal
