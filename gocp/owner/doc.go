// Package owner says who writes to a folder, so that two processes, on one machine or on two that share
// a file system, do not do the same work at once.
//
// A lock NAME is the files NAME.1, NAME.2, … of a folder, its generations, with who took each as JSON. The
// holder is who wrote the highest one. To take the lock is to write a file of a name of one's own, to
// link it to the generation after the highest, and then to list the folder: the lock is taken if one's
// own is the highest and who stands in the others does not live. link fails where the name exists, on
// NFS too, and whatever it answered there, the list tells what came of it. No file has two
// writers, and nobody removes the generation of a holder who lives.
//
// The holder refreshes the time of its own file, by the file server's clock. A holder is dead for certain
// if it ran on this machine since its last start and its process is no more. A later life of the same task
// of a batch system, started again by the scheduler, takes over from an earlier one. Any other holder
// may be at work, however long nothing was heard of it: to take over from it is for a person to decide.
package owner
