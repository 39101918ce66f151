// Package compute answers single questions about a model in numbers: logits, losses,
// gradients, per-sample gradients, second derivatives, scores, the adversary's loss. It is
// what `gocp compute` runs, so that anyone can hold gocp's numerics against their own
// framework. docs/compute.md defines every quantity and the files.
//
// The interface speaks PyTorch: images are NCHW, parameters have PyTorch's names and shapes.
// Inside, as everywhere in gocp, images are NHWC and weights KRSC.
package compute
