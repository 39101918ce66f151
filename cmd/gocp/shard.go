package main

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/slurm"
	"github.com/gocp/gocp/gocp/usage"
)

// shardFlags make a command that runs jobs one of several processes that share them.
func shardFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "shard", Usage: "do a share of the jobs: I/N, counted from 0; auto/N, which takes I from JOB_COMPLETION_INDEX; auto, in a task of gocp slurm submit; gocp collect joins what shards did"},
		&cli.StringFlag{Name: "stage", Usage: "with --shard: only the jobs of one stage: " + strings.Join(experiment.Stages(), ", "), DefaultText: "all, one after the other"},
		takeOverFlag(),
	}
}

func takeOverFlag() cli.Flag {
	return &cli.BoolFlag{Name: "take-over", Usage: "go on in a folder whose owner, on another machine, is not at work any more"}
}

// shardRules are what those flags go with.
func shardRules() []rule {
	return []rule{only("--shard", given("shard"), "stage"), apart("shard", "json"), apart("prepare", "shard"), apart("prepare", "resume"), apart("prepare", "json")}
}

// shardOf reads --shard and --stage; ok is false where there is no shard.
func shardOf(c *cli.Context) (s experiment.Shard, ok bool, err error) {
	text := c.String("shard")
	if text == "" {
		return s, false, nil
	}
	if text == "auto" {
		if s.Stage, s.Index, s.Of, err = slurm.ShardOf(c.String("out"), slurm.Current()); err != nil {
			return s, false, usage.Errorf("--shard auto: %w", err)
		}
		if want := c.String("stage"); want != "" && want != s.Stage {
			return s, false, usage.Errorf("--stage is %s, and this task is of stage %s", want, s.Stage)
		}
		return s, true, s.Validate()
	}
	index, of, found := strings.Cut(text, "/")
	if index == "auto" {
		if index = os.Getenv("JOB_COMPLETION_INDEX"); index == "" {
			return s, false, usage.Errorf("--shard %s: JOB_COMPLETION_INDEX is not set, so this is no task of an indexed job; say which shard this is, as in --shard 0/8", text)
		}
	}
	var errs [2]error
	s.Index, errs[0] = strconv.Atoi(index)
	s.Of, errs[1] = strconv.Atoi(of)
	if !found || errors.Join(errs[:]...) != nil {
		return s, false, usage.Errorf("--shard %s is no share such as 0/8, the first of 8, or auto/8", text)
	}
	s.Stage = c.String("stage")
	return s, true, s.Validate()
}

// later marks the failure of work that is to be run again, after a signal or when others have done theirs.
type later struct{ error }

func (l later) Unwrap() error { return l.error }

// again marks what a shard left unfinished.
func again(err error) error {
	var missing *experiment.Unfinished
	if errors.Is(err, context.Canceled) || errors.As(err, &missing) {
		return later{err}
	}
	return err
}

// unlessWarned marks what a warning left unfinished: it is to be run again. To a person's signal the status
// is that of an interrupted program.
func unlessWarned(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) && warned(ctx) {
		return later{err}
	}
	return err
}
