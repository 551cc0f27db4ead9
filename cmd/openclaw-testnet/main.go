// Command openclaw-testnet is a whole cluster on one machine, to be broken on purpose: by hand
// on a page, or by scenarios.
package main

import (
	"fmt"
	"os"

	"github.com/alecthomas/kong"
)

type flags struct {
	Page  pageCmd  `cmd:"" default:"withargs" help:"Regions of nodes under load, and a page to cut them with; the default."`
	Run   runCmd   `cmd:"" help:"Play scenarios, check what they expect, write reports; exit 1 if anything was not as expected."`
	Drill drillCmd `cmd:"" help:"Break a cluster under the shipped alerts, and measure what they promise; needs Prometheus and Alertmanager."`
}

func main() {
	var f flags
	k := kong.Parse(&f, kong.Name("openclaw-testnet"),
		kong.Description("A whole OpenClaw Edge cluster on this machine, to be broken on purpose."))
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
