// Package report shows a Result: as report.html, one file that needs no network and no script
// (inline SVG and CSS, pictures as data URIs), and as the compact table that a terminal gets.
//
// Write and Text are functions of the Result and the pictures alone: the same Result gives the
// same bytes, clock times apart. Every figure in words is computed from the repeats, and the
// verdict follows fixed rules (verdict.go), so that a report cannot say more than its numbers:
// an effect is called clear from 3 standard errors with p ≤ 0.02, paired over repeats and against
// uniform noise of the same budget, never against the benign sizes.
package report
