// Package defense finds the samples of a training set that look poisoned, by what their features, labels
// and losses say: filters, as their papers define them, for anyone's data. No matrix of all pairs is ever
// formed, so memory grows with the set as its features do.
//
// A filter is one file and one line in [Filters]. All of them are told how many poisons to reckon with,
// for each drops a multiple of that number; none can know it.
package defense
