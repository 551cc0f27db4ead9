package main

import (
	"errors"
	"fmt"
	"net/url"
	"time"
)

type bucketArgs struct {
	Limit string `arg:"" complete:"limits" help:"Name of a limit; \"openclawctl limits\" lists them."`
	Key   string `arg:"" help:"Who is limited: a user, an address, an API key."`
}

func (b *bucketArgs) path(call string) string {
	return call + url.PathEscape(b.Limit) + "/" + url.PathEscape(b.Key)
}

type takeCmd struct {
	bucketArgs
	Cost  int64         `default:"1" placeholder:"N" help:"Tokens to take (default ${default})."`
	Watch bool          `help:"Take again and again until Ctrl-C, or --count times; exit 0 also if refused."`
	Every time.Duration `default:"1s" placeholder:"1s" help:"With --watch: time between takes (default ${default})."`
	Count int           `placeholder:"N" help:"With --watch: stop after so many."`
}

func (*takeCmd) Help() string {
	return `Spends tokens, as a request of the key's would; exit status 3 if the bucket has too few.

    openclawctl take per-user alice --cost 5
    openclawctl take per-user alice --watch
    openclawctl take per-user alice > /dev/null || echo "come back later"`
}

type takeAnswer struct {
	Allowed   bool    `json:"allowed"`
	Limit     string  `json:"limit"`
	Key       string  `json:"key"`
	Remaining int64   `json:"remaining"`
	Capacity  float64 `json:"capacity"`
	Rate      float64 `json:"refill_rate"`
	RetryMS   float64 `json:"retry_after_ms"`
	Backup    bool    `json:"backup"`
}

func (t *takeAnswer) String() string {
	word, end := "allowed", ""
	switch {
	case !t.Allowed:
		word, end = "refused", "; try again in "+span(t.RetryMS)
	case t.Backup:
		end = "; from the backup bucket, as refill authority is lost or failover is on"
	}
	return fmt.Sprintf("%s: %s has %d of %s tokens left, refills %s%s", word, bucketName(t.Limit, t.Key), t.Remaining, number(t.Capacity), rate(t.Rate), end)
}

func (c *takeCmd) Run(s *session) error {
	if c.Watch {
		return c.watch(s)
	}
	t, refused, err := c.once(s)
	if err != nil {
		return err
	}
	s.say("%s", t)
	if refused {
		return errRefused
	}
	return nil
}

func (c *takeCmd) once(s *session) (t *takeAnswer, refused bool, err error) {
	t = &takeAnswer{}
	status, err := s.ask("POST", fmt.Sprintf("%s?cost=%d", c.path("/v1/take/"), c.Cost), t)
	return t, status == 429, s.meant(err, c.Limit, "/v1/limits", "limits", "name")
}

// watch shows one line a take; on a terminal the last line only. A node that does not answer for
// a while is waited for: that is what one watches for.
func (c *takeCmd) watch(s *session) error {
	if c.Every <= 0 {
		return usageError{errors.New("--every must be more than 0, as in 500ms")}
	}
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	var takes, refusals, failures int64
	for {
		t, refused, err := c.once(s)
		if errors.As(err, new(*problem)) || err != nil && takes == 0 && s.ctx.Err() == nil {
			return err
		}
		if s.ctx.Err() != nil {
			break
		}
		takes++
		line := t.String()
		if err != nil {
			failures++
			line = "failed:  " + err.Error()
		}
		if refused {
			refusals++
		}
		c.line(s, line)
		if takes == int64(c.Count) {
			break
		}
		select {
		case <-tick.C:
			continue
		case <-s.ctx.Done():
		}
		break
	}
	if s.live {
		s.say("")
	}
	s.say("%s: %d allowed, %d refused, %d failed", plural(takes, "take"), takes-refusals-failures, refusals, failures)
	return nil
}

// line shows one take with its time.
func (c *takeCmd) line(s *session, text string) {
	text = time.Now().Format(time.TimeOnly) + "  " + text
	if s.live {
		fmt.Fprint(s.out, "\r\x1b[K"+text) // back to the line's start, and clear it
		return
	}
	s.say("%s", text)
}

type creditCmd struct {
	bucketArgs
	Tokens int64 `default:"1" placeholder:"N" help:"Tokens to give back (default ${default})."`
}

func (*creditCmd) Help() string {
	return `Gives tokens back, say the part of an estimate that was not used. A bucket holds no more than its
capacity: the rest is dropped.

    openclawctl credit per-api-key 3f2a… --tokens 800`
}

func (c *creditCmd) Run(s *session) error {
	var t takeAnswer
	_, err := s.ask("POST", fmt.Sprintf("%s?tokens=%d", c.path("/v1/credit/"), c.Tokens), &t)
	if err != nil {
		return s.meant(err, c.Limit, "/v1/limits", "limits", "name")
	}
	s.say("credited: %s has %d of %s tokens left, refills %s", bucketName(t.Limit, t.Key), t.Remaining, number(t.Capacity), rate(t.Rate))
	return nil
}

type bucketCmd struct{ bucketArgs }

func (*bucketCmd) Help() string {
	return `Shows what is left, and which node took and credited how much, without taking anything.
A writer is one run of a node; a bucket's debt is what several nodes admitted at once beyond the limit.

    openclawctl bucket per-user alice`
}

func (c *bucketCmd) Run(s *session) error {
	var b struct {
		Limit    string  `json:"limit"`
		Key      string  `json:"key"`
		Tokens   int64   `json:"tokens"`
		Capacity float64 `json:"capacity"`
		Rate     float64 `json:"refill_rate"`
		Debt     float64 `json:"debt"`
		Slots    []struct {
			Node     string  `json:"node"`
			Writer   string  `json:"writer"`
			Taken    float64 `json:"taken"`
			Credited float64 `json:"credited"`
		} `json:"slots"`
	}
	if _, err := s.ask("GET", c.path("/v1/buckets/"), &b); err != nil {
		return s.meant(err, c.Limit, "/v1/limits", "limits", "name")
	}
	debt := ""
	if b.Debt > 0 {
		debt = fmt.Sprintf(", in debt by %s", number(b.Debt))
	}
	s.say("%s has %d of %s tokens left, refills %s%s", bucketName(b.Limit, b.Key), b.Tokens, number(b.Capacity), rate(b.Rate), debt)
	var rows [][]string
	for _, o := range b.Slots {
		rows = append(rows, []string{name(o.Node), name(o.Writer), number(o.Taken), number(o.Credited)})
	}
	if !s.json && len(rows) > 0 {
		table(s.out, "NODE|WRITER|TAKEN|CREDITED", rows)
	}
	return nil
}
