// Package trainer has models trained by a program of the user's, in any framework. The program finds
// images and labels as .npy files in the folder that it is started in and leaves the logits, or the
// probabilities, of others there (docs/victims.md). It is never told which condition it trains for.
//
// No shell is in between: Split takes a line apart by the shell's rules of quoting and refuses
// whatever else of a shell's language it finds.
package trainer
