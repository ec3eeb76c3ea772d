package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// settings are what the flags say.
type settings struct {
	size   int64
	rounds int
	// peers are those to compare with.
	peers []string
	// growth are the sizes of the growth part.
	growth []int64
	dir    string
	json   string
	docs   string
	// profiles is a folder for CPU profiles of Godwit's runs.
	profiles string
	// within is how long rounds go on: none is begun that would not end by then.
	within time.Duration
	// note is what a reader of the result should know.
	note string
	keep bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if helper, ok := helpers()[args[0]]; ok {
			return helper(ctx, args[1:])
		}
	}
	s, err := parse(args)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, s)
	if err != nil {
		return err
	}
	defer b.close()
	result, err := b.measure(ctx)
	if err != nil {
		return err
	}
	return result.write(s)
}

func parse(args []string) (settings, error) {
	var s settings
	var size, growth, peers string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&size, "size", "8GiB", "size of the image, half of it allocated")
	flags.IntVar(&s.rounds, "rounds", 3, "how often everything is run; 0 leaves the comparison out")
	flags.DurationVar(&s.within, "within", 0, "begin no further round that would not end in so much time, such as 15m; 0 runs all")
	flags.StringVar(&peers, "peers", "kopia,restic,rsync,velero,raw", "whom to compare with")
	flags.StringVar(&growth, "growth", "1GiB,8GiB,1TiB,16TiB", "sizes of the growth part; empty leaves it out")
	flags.StringVar(&s.dir, "dir", "", "folder to work in (default: a temporary one)")
	flags.StringVar(&s.json, "json", "bin/bench.json", "file for the result; empty writes none")
	flags.StringVar(&s.docs, "docs", "", "folder whose performance.md and plot are written anew")
	flags.StringVar(&s.profiles, "profiles", "", "folder for CPU profiles of Godwit's runs")
	flags.StringVar(&s.note, "note", "", "what a reader of the result should know, such as that the machine was busy")
	flags.BoolVar(&s.keep, "keep", false, "leave the working folder")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	var err error
	if s.size, err = parseSize(size); err != nil {
		return s, fmt.Errorf("-size: %w", err)
	}
	if s.size < smallestImage {
		return s, fmt.Errorf("-size %s is too small to measure: at least %s", size, sizeText(smallestImage))
	}
	for _, text := range fields(growth) {
		n, err := parseSize(text)
		if err != nil {
			return s, fmt.Errorf("-growth: %w", err)
		}
		s.growth = append(s.growth, n)
	}
	s.peers = fields(peers)
	for _, file := range []*string{&s.json, &s.docs, &s.profiles} {
		if *file == "" {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil {
			return s, fmt.Errorf("find %s: %w", *file, err)
		}
	}
	return s, nil
}

func fields(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}
