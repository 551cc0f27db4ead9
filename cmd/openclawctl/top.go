package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

type topCmd struct {
	N    int  `name:"n" short:"n" default:"20" placeholder:"N" help:"Keys in each list, 1 to 100 (default ${default})."`
	Once bool `help:"Show it once, and end."`
}

func (*topCmd) Help() string {
	return `Three lists, counted anew each second until Ctrl-C:

    HOT    what was taken most in the last second, by the whole cluster
    DRY    buckets without a whole token; those still asked for come first
    DEBT   what several nodes admitted at once beyond the limit; refill pays it first

Takes that were refused are not counted: a key that hammers a dry bucket shows under DRY, with what
refill lets it have. Keys are shown as the node keeps them: a hashed API key as its hash.`
}

type topKey struct {
	Limit    string  `json:"limit"`
	Key      string  `json:"key"`
	Tokens   int64   `json:"tokens"`
	Capacity float64 `json:"capacity"`
	Rate     float64 `json:"refill_rate"`
	Debt     float64 `json:"debt"`
	Taken    float64 `json:"taken_per_second"`
}

type topAnswer struct {
	Node     string   `json:"node"`
	Live     int64    `json:"live_keys"`
	Dry      int64    `json:"dry_keys"`
	Indebted int64    `json:"debt_keys"`
	HotKeys  []topKey `json:"hot"`
	DryKeys  []topKey `json:"dry"`
	Debts    []topKey `json:"debts"`
}

// Run shows the lists. The node answers when it has counted for a second; the ticker paces what
// fails sooner.
func (c *topCmd) Run(s *session) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for shown := false; ; shown = true {
		var t topAnswer
		_, err := s.ask("GET", fmt.Sprintf("/v1/top?n=%d", c.N), &t)
		switch {
		case s.ctx.Err() != nil && !c.Once:
			return nil
		case err != nil && (c.Once || !shown || errors.As(err, new(*problem))):
			return err
		case err != nil:
			fmt.Fprintf(s.errs, "openclawctl: %v\n", err)
		case !s.json:
			t.view(s, time.Now())
		}
		if c.Once {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return nil
		}
	}
}

// view writes in one go, so that a terminal does not flicker.
func (t *topAnswer) view(s *session, now time.Time) {
	var b bytes.Buffer
	if s.live {
		b.WriteString("\x1b[H\x1b[J") // to the upper left corner, and clear what is below
	}
	fmt.Fprintf(&b, "%s  %s: %s not full, %d dry, %d in debt\n", now.Format(time.TimeOnly), name(t.Node), plural(t.Live, "bucket"), t.Dry, t.Indebted)
	list(&b, "HOT", t.HotKeys)
	list(&b, "DRY", t.DryKeys)
	list(&b, "DEBT", t.Debts)
	b.WriteString("\n")
	s.out.Write(b.Bytes())
}

func list(w io.Writer, title string, keys []topKey) {
	if len(keys) == 0 {
		return
	}
	var rows [][]string
	for _, k := range keys {
		rows = append(rows, []string{bucketName(k.Limit, k.Key), number(k.Taken), fmt.Sprintf("%d of %s", k.Tokens, number(k.Capacity)), rate(k.Rate), number(k.Debt)})
	}
	fmt.Fprintln(w)
	table(w, title+"|TAKEN/S|LEFT|REFILL|DEBT", rows)
}
