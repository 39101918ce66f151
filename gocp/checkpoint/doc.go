// Package checkpoint reads models that other libraries wrote, and writes gocp's for them: torchvision, timm,
// transformers and pytorch-cifar, for the architectures of gocp/nn. Each library is a table of names.
//
// What shapes tell (width, classes, stem) is taken from them; the rest a file's metadata or the caller
// must say. No number is made up: a missing tensor, one too many, or one of another shape is an error
// that names it.
package checkpoint
