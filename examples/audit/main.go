// Audit is `gocp audit` as a library call: a small audit of the embedded CIFAR-10 sample that
// asks whether an adversary can add labels to the prediction sets of images it chose.
//
//	. ./.envrc && make lib && go run ./examples/audit FOLDER
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/data/cifar10sample"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/result"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: audit FOLDER")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string) (err error) {
	src, err := data.Open(cifar10sample.Name)
	if err != nil {
		return err
	}
	dev, err := device.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()

	// What is not set here has the defaults of experiment.Config.
	c := experiment.Config{
		Goal:      attack.GoalConfig{Name: "underconfidence"},
		Repeats:   2,
		Victims:   1,
		TrainSize: 2000,
		CalSize:   300,
	}
	res, err := experiment.Audit(ctx, dev, c,
		experiment.Data{Train: src.Split("train"), Test: src.Split("test"), Origin: src.Origin},
		experiment.Options{Dir: dir, Progress: progress.Lines(os.Stderr, 10*time.Second)})
	if err != nil {
		return err
	}
	for _, row := range res.Summary.Rows {
		fmt.Printf("%-7s %.2f labels in a set, prediction kept %.2f\n", row.Condition, row.SetSize.Mean, row.Kept.Mean)
	}
	if d := res.Summary.Difference(result.QExpansion, result.Attack, result.RandUn); d != nil {
		fmt.Printf("expansion beyond that of noise: %+.2f ± %.2f\n", d.Mean, d.SE)
	}
	return nil
}
