package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (*completionCmd) Help() string {
	return `Prints a script that completes commands, flags, and the names of limits and members, for which it asks
the node. To try it:

    source <(openclawctl completion bash)
    source <(openclawctl completion zsh)
    openclawctl completion fish | source`
}

// The scripts hand the words up to the cursor to this program, which alone knows the commands.
//
// Why not a library: jotaen/kong-completion has had no release since 2022 and willabides/kongplete
// builds on another abandoned one; neither knows the names of limits.
const completeCommand = "__complete"

var completionScripts = map[string]string{
	// COMP_WORDS breaks words at colons, of which addresses have some.
	"bash": `_openclawctl() {
  local line="${COMP_LINE:0:COMP_POINT}" IFS=$' \t\n'
  local -a words
  read -ra words <<< "$line"
  [[ "$line" == *[[:space:]] ]] && words+=("")
  local IFS=$'\n'
  COMPREPLY=($(openclawctl __complete "${words[@]:1}" 2>/dev/null | cut -f1))
}
complete -F _openclawctl openclawctl
`,
	"zsh": `#compdef openclawctl
_openclawctl() {
  compadd -- ${(f)"$(openclawctl __complete "${(@)words[2,CURRENT]}" 2>/dev/null | cut -f1)"}
}
compdef _openclawctl openclawctl
`,
	"fish": `function __openclawctl_complete
  set -l before (commandline -opc)
  set -l word (commandline -ct)
  openclawctl __complete $before[2..] "$word" 2>/dev/null
end
complete -c openclawctl -f -a '(__openclawctl_complete)'
`,
}

func (c *completionCmd) Run(s *session) error {
	fmt.Fprint(s.out, completionScripts[c.Shell])
	return nil
}

// complete prints what the last word may become, one a line, with its help behind a tab.
func complete(ctx context.Context, out io.Writer, app *kong.Node, words []string) {
	if len(words) == 0 {
		words = []string{""}
	}
	word, at := words[len(words)-1], place{node: app}
	for _, w := range words[:len(words)-1] {
		at.pass(w)
	}
	for _, c := range at.candidates(ctx, word) {
		if strings.HasPrefix(c[0], word) {
			fmt.Fprintf(out, "%s\t%s\n", c[0], c[1])
		}
	}
}

// place is where on a command line we are.
type place struct {
	node *kong.Node
	args int        // of the command, that are passed
	flag *kong.Flag // that wants its value next
	addr string     // that --addr gave
}

func (p *place) pass(word string) {
	switch name, value, found := strings.Cut(word, "="); {
	case p.flag != nil:
		p.value(word)
	case strings.HasPrefix(word, "-"):
		if p.flag = p.flagNamed(name); p.flag != nil && (found || p.flag.IsBool()) {
			p.value(value)
		}
	default:
		for _, c := range p.node.Children {
			if c.Name == word {
				p.node = c
				return
			}
		}
		p.args++
	}
}

func (p *place) value(v string) {
	if p.flag.Name == "addr" {
		p.addr = v
	}
	p.flag = nil
}

func (p *place) flags() (all []*kong.Flag) {
	for n := p.node; n != nil; n = n.Parent {
		all = append(all, n.Flags...)
	}
	return all
}

func (p *place) flagNamed(name string) *kong.Flag {
	for _, f := range p.flags() {
		if name == "--"+f.Name || f.Short != 0 && name == "-"+string(f.Short) {
			return f
		}
	}
	return nil
}

// candidates are pairs of a word and its help.
func (p *place) candidates(ctx context.Context, word string) (all [][2]string) {
	switch {
	case p.flag != nil:
		return p.values(ctx, p.flag.Value)
	case strings.HasPrefix(word, "-"):
		for _, f := range p.flags() {
			all = append(all, [2]string{"--" + f.Name, f.Help})
		}
		return all
	case p.args < len(p.node.Positional):
		return p.values(ctx, p.node.Positional[p.args])
	}
	for _, c := range p.node.Children {
		all = append(all, [2]string{c.Name, c.Help})
	}
	return all
}

// values are those that a flag or an argument may have, if they can be known.
func (p *place) values(ctx context.Context, v *kong.Value) (all [][2]string) {
	for _, e := range v.EnumSlice() {
		all = append(all, [2]string{e, ""})
	}
	what := v.Tag.Get("complete")
	if what == "" {
		return all
	}
	f := &flags{Addr: p.addr, Timeout: 500 * time.Millisecond} // a shell waits for it
	for _, addr := range []string{os.Getenv("OPENCLAW_ADDR"), "http://127.0.0.1:8080"} {
		if f.Addr == "" {
			f.Addr = addr
		}
	}
	s, err := newSession(ctx, f, io.Discard, io.Discard)
	if err != nil {
		return all
	}
	list := s.limitNames
	if what == "members" {
		list = s.memberNames
	}
	names, _ := list() // without a node, there is nothing to offer
	for _, n := range names {
		all = append(all, [2]string{n, ""})
	}
	return all
}
