package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
)

// logWriter turns memberlist's log lines into slog records. Some refusals show nowhere else,
// so they are counted here; being a stranger's doing, they are logged at debug only.
type logWriter struct{ g *Gossip }

func newLogger(g *Gossip) *log.Logger { return log.New(logWriter{g}, "", 0) }

// refusals are what memberlist v0.7.0 says when it refuses a packet or stream.
var refusals = []struct {
	text string
	why  drop
}{
	{"with unacceptable label", dropLabel},
	{"label header", dropLabel},
	{"cannot decode label", dropLabel},
	{"Decrypt packet failed", dropKey},
	{"could not decrypt", dropKey},
	{"No installed keys", dropKey},
	{"remote state is encrypted and encryption is not configured", dropKey},
	{"encryption is configured but remote state is not encrypted", dropKey},
	{"handler queue full", dropQueue},
	{"not supported", dropGarbage},
	{"missing message type", dropGarbage},
	{"Failed to decode", dropGarbage},
	{"Received invalid msgType", dropGarbage},
}

func (w logWriter) Write(line []byte) (int, error) {
	level := slog.LevelDebug
	if bytes.Contains(line, []byte("[WARN]")) || bytes.Contains(line, []byte("[ERR")) {
		level = slog.LevelWarn
	}
	for _, r := range refusals {
		if bytes.Contains(line, []byte(r.text)) {
			w.g.counts.drop(w.refined(r.why, line))
			level = slog.LevelDebug
			break
		}
	}
	if logger := w.g.cfg.Logger; logger.Enabled(context.Background(), level) {
		_, text, ok := bytes.Cut(line, []byte("] "))
		if !ok {
			text = line
		}
		logger.Log(context.Background(), level, string(bytes.TrimSpace(text)))
	}
	return len(line), nil
}

// refined: to a node without a key, an encrypted packet looks like an indirect ping (type 1,
// memberlist's encryption version) that does not decode.
func (w logWriter) refined(why drop, line []byte) drop {
	if w.g.keyring == nil && bytes.Contains(line, []byte("Failed to decode indirect ping request")) {
		return dropKey
	}
	return why
}
