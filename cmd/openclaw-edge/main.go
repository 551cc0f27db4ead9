// Command openclaw-edge is a node of OpenClaw Edge: a rate limiter that many regions share.
//
// It puts flags, environment, file and defaults, in this order, onto a node.Config, and runs
// the node until SIGTERM or SIGINT.
package main

import (
	"fmt"
	"os"

	"github.com/alecthomas/kong"

	"github.com/openclaw/edge/node"
)

type flags struct {
	Config      string   `placeholder:"FILE" help:"Limits and settings (YAML); without one, built-in limits."`
	Node        string   `placeholder:"NAME" help:"Stable name of this node, unique in the cluster (default: the host's)."`
	Region      string   `placeholder:"NAME" help:"Region that it runs in."`
	HTTP        string   `name:"http" default:"${http}" help:"Address of the API (default ${default})."`
	GRPC        string   `name:"grpc" default:"${grpc}" help:"Address of gRPC, for Envoy (default ${default})."`
	MetricsPort int      `default:"${metrics}" help:"Port of /metrics, on the host of --http (default ${default})."`
	Gossip      string   `default:"${gossip}" help:"Address of gossip, UDP and TCP (default ${default})."`
	Advertise   string   `placeholder:"HOST:PORT" help:"Where peers reach us, if not at --gossip."`
	Join        []string `placeholder:"HOST:PORT,…" help:"Any nodes of the cluster."`
	DataDir     string   `default:"${data}" help:"What must survive a restart (default ${default})."`
	LogLevel    string   `default:"info" enum:"debug,info,warn,error" help:"debug, info, warn or error (default ${default})."`
	LogFormat   string   `default:"text" enum:"text,json" help:"text or json (default ${default})."`
	LogFile     string   `placeholder:"FILE" help:"Append the log to this file (default: standard error)."`

	Run     struct{} `cmd:"" default:"1" help:"Run the node; the default."`
	Check   checkCmd `cmd:"" help:"Check a config file; exit 1, with line and column, on a mistake."`
	Version struct{} `cmd:"" help:"Print the version."`
}

type checkCmd struct {
	File string `arg:"" help:"The file to check."`
}

func main() {
	var f flags
	d := node.DefaultConfig()
	k := kong.Parse(&f, kong.Name("openclaw-edge"),
		kong.Description("A distributed rate limiter: every node answers at once, all of them share one count."),
		kong.DefaultEnvars("OPENCLAW"),
		kong.Vars{"http": d.HTTP, "grpc": d.GRPC, "gossip": d.Gossip, "data": d.DataDir, "metrics": fmt.Sprint(d.MetricsPort)})
	var err error
	switch k.Command() {
	case "check <file>":
		err = check(f.Check.File)
	case "version":
		fmt.Println("openclaw-edge", node.Version())
	default:
		err = run(&f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(file string) error {
	c, warnings, err := node.ReadConfig(file)
	for _, w := range warnings {
		fmt.Fprintln(os.Stderr, w)
	}
	if err == nil {
		limits := "limits"
		if len(c.Limits) == 1 {
			limits = "limit"
		}
		fmt.Printf("%s: good; %d %s, version %d\n", file, len(c.Limits), limits, c.LimitsVersion)
	}
	return err
}
