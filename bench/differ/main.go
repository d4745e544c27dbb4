// Command differ holds the fast engine of the payload stage against the plain one for
// a given time: see package rules/waf/differ. It exits with 1 if they differ.
//
//	go run ./bench/differ -for 30m -seed 7
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"

	"github.com/moatwaf/moat/rules/waf/differ"
)

func main() {
	o := differ.Options{Log: os.Stdout}
	flag.DurationVar(&o.For, "for", 5*time.Minute, "how long")
	flag.Uint64Var(&o.Seed, "seed", 1, "what determines the rules and the requests")
	flag.IntVar(&o.Workers, "workers", 1, "how many rounds run at a time")
	flag.IntVar(&o.First, "round", 0, "the first round")
	flag.IntVar(&o.Rounds, "rounds", 0, "how many rounds; 0 for as many as the time allows")
	flag.StringVar(&o.Dir, "dir", "", "where the cases of differences are written")
	flag.DurationVar(&o.Minimise, "minimise", 20*time.Second, "how long one difference is made smaller")
	flag.DurationVar(&o.Progress, "progress", time.Minute, "how often the figures are printed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	start := time.Now()
	f, err := differ.Run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Printf("seed %d, %v, %d workers, %s %s/%s, %d cores: %v\n%s", o.Seed, time.Since(start).Round(time.Second), max(1, o.Workers),
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), &f, f.Report())
	if f.Differences > 0 {
		os.Exit(1)
	}
}
