// Package train fits models by stochastic gradient descent, as the victims of an audit are
// fitted: SGD with momentum and weight decay on the mean cross entropy of shuffled
// mini-batches (PyTorch's update, dampening 0), optionally with random shifts and flips.
//
// A run is a function of its Config and its data alone: initialisation, order and
// augmentation come from the counter-based generator in gocp/rng, addressed by seed, epoch
// and step, and a stream of width 1 adds in one order whatever the machine.
package train
