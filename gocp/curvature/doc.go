// Package curvature knows the matrix C of second derivatives of the mean training loss by its products
// with vectors, and solves (C + λI) s = v with it. It is what turns a first-order attack into a
// second-order one (docs/math.md §10): the adversary's gradient v is replaced by s once, and crafting goes
// on as before.
//
// C is the Gauss–Newton matrix JᵀH_out J / N, which has no negative eigenvalue, or the Hessian. Training
// mode is possible, evaluation mode is what attacks take. Images are in batches that lie on the device;
// what their forward passes leave is kept as far as there is room, so that a product costs 4 products a
// layer with the Gauss–Newton matrix and 6 with the Hessian, where a training step costs 3.
//
// Everything is float32 on the device, sums of long vectors in float64, in an order that does not depend
// on anything: the same call gives the same bits.
//
// Sources: Schraudolph 2002 (products with the Gauss–Newton matrix); Pearlmutter 1994 (with the Hessian);
// Hestenes and Stiefel 1952 (conjugate gradients); Agarwal, Bullins and Hazan 2017 and Koh and Liang 2017
// (LiSSA).
package curvature
