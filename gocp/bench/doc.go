// Package bench times whole passes as users run them: a crafting step, a Hessian-vector product,
// a training step and per-sample gradient norms. Crafting and training are timed inside
// gocp/attack and gocp/train themselves, step by step.
//
// A pass is timed in two arrangements: one at a time on all cores, and as many side by side as
// there are cores, each on one. The second is how an audit runs; its time is per step, all of
// them counted. Beside it stands the time of the convolutions alone, with the same shapes,
// operands and order: what remains of the step is everything around them. Every row has a check
// of its result that takes another way to the same number.
package bench
