// Package report shows a Result: as report.html, one file that needs no network and no script
// (inline SVG and CSS, pictures as data URIs), as figures in files for a paper, and as the compact
// table that a terminal gets.
//
// Figures are gonum/plot's: plots.go says what they show, chart.go how they look, drawing.go turns
// one drawing into a part of a page, whose theme colours it, or into SVG, PDF or PNG.
//
// Write and Text are functions of the Result and the pictures alone: the same Result gives the
// same bytes, clock times apart. Every figure in words is computed from the repeats, and the
// verdict follows fixed rules (verdict.go), so that a report cannot say more than its numbers:
// an effect is called clear from 3 standard errors with p ≤ 0.02, paired over repeats and against
// uniform noise of the same budget, never against the benign sizes.
package report
