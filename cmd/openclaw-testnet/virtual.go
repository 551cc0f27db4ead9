package main

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
)

// inVirtualTime calls play with a function that runs another in a bubble of virtual time, and ends
// the process: with 1 if play returned an error, which it prints.
//
// Virtual time exists only inside a test, so this makes one, by testing.Main, which is kept for
// such uses. It would read our flags for its own and print PASS or FAIL: so it gets none, and
// nothing to print on.
func inVirtualTime(play func(bubble func(func())) error) {
	test := func(t *testing.T) {
		err := play(func(f func()) { synctest.Test(t, func(*testing.T) { f() }) })
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			t.Fail()
		}
	}
	if err := flag.CommandLine.Parse(nil); err != nil {
		panic(err) // it was given nothing to dislike
	}
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout = nowhere
	all := func(_, _ string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "scenarios", F: test}}, nil, nil)
}
