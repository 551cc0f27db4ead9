package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/alecthomas/kong"
)

// Exit codes, as the description has them.
const (
	exitFailed = 1 + iota
	exitUsage
	exitRefused
)

// errRefused ends the program with exitRefused; the answer has been shown.
var errRefused = errors.New("refused")

// usageError is a mistake on the command line that kong cannot see.
type usageError struct{ error }

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	var f flags
	parser := kong.Must(&f, append(options(), kong.Writers(out, errs))...)
	if len(args) > 0 && args[0] == completeCommand {
		complete(ctx, out, parser.Model.Node, args[1:])
		return 0
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(errs, "openclawctl: %v\n%s\n", err, whereHelpIs(err))
		return exitUsage
	}
	s, err := newSession(ctx, &f, out, errs)
	if err == nil {
		err = k.Run(s)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errRefused):
		return exitRefused
	case errors.As(err, new(usageError)):
		fmt.Fprintf(errs, "openclawctl: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(errs, "openclawctl: %v\n", err)
	return exitFailed
}

// whereHelpIs names the help of the command that was meant, if any.
func whereHelpIs(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context.Selected() != nil {
		return "Help: openclawctl " + parse.Context.Selected().Name + " --help"
	}
	return "Help: openclawctl --help"
}
