package attack_test

import (
	"fmt"

	"github.com/gocp/gocp/gocp/attack"
)

// Two surrogates agree that an image of class 3 is one, and leave class 5 open.
func ExampleNewGoal() {
	goal, err := attack.NewGoal(attack.GoalConfig{Name: "overconfidence"})
	if err != nil {
		fmt.Println(err)
		return
	}
	b := attack.Belief{Label: 3, Predicted: 3, Prob: []float64{0, 0, 0, .7, 0, .3},
		Excess: []float64{.1, .1, .1, -.6, .1, -.2}, Sets: [][]int{{3, 5}, {3, 5}}}
	aim, err := goal.Aim(b)
	fmt.Println(goal.Eligible(b), aim.Remove, aim.Keep, goal.Classes(b, aim), err)
	// Output: true [5] 3 [3] <nil>
}

// Noise of the ball's size on images of an adversary: the control of every attack.
func ExampleRandUn() {
	images := attack.Images{H: 1, W: 2, C: 1, Pixels: []uint8{100, 250, 0, 30}, Labels: []int32{1, 0}}
	p, err := attack.RandUn(images, []int{0, 1}, 16, 7)
	if err != nil {
		fmt.Println(err)
		return
	}
	largest, _ := p.Spread()
	fmt.Println(len(p.After), largest <= 16)
	// Output: 4 true
}
