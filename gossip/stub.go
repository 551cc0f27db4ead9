package gossip

import (
	"context"

	"github.com/hashicorp/memberlist"
)

const (
	maxName   = 64
	maxRoster = 1024
	// MaxHeader bounds what State.Header may append, in bytes.
	MaxHeader = 400
)

type loop struct{}

func (l *loop) forget(string) error { return nil }
func setKeys(*memberlist.Keyring, [][]byte) error { return nil }
func (g *Gossip) run(ctx context.Context) error { <-ctx.Done(); return nil }
