package main

import (
	"fmt"
	"net/url"
	"time"
)

type reserveCmd struct {
	bucketArgs
	Cost int64         `default:"1" placeholder:"N" help:"Tokens that it may take (default ${default})."`
	TTL  time.Duration `name:"ttl" default:"1m" placeholder:"1m" help:"Given back after so long, if nobody settles (default ${default})."`
}

func (*reserveCmd) Help() string {
	return `Takes an estimate, say of an LLM's tokens before a call, and shows the id to settle it with, on any node;
exit status 3 if the bucket has too few. Unless it is settled, the estimate is given back after --ttl.

    openclawctl reserve per-api-key 3f2a… --cost 4000 --ttl 2m
    openclawctl settle gfjR…tQ --used 812`
}

func (c *reserveCmd) Run(s *session) error {
	var t struct {
		takeAnswer
		ID      string    `json:"id"`
		Expires time.Time `json:"expires_at"`
	}
	status, err := s.ask("POST", fmt.Sprintf("%s?cost=%d&ttl=%v", c.path("/v1/reserve/"), c.Cost, c.TTL), &t)
	if err != nil {
		return s.meant(err, c.Limit, "/v1/limits", "limits", "name")
	}
	if status == 429 {
		s.say("%s", &t.takeAnswer)
		return errRefused
	}
	s.say("reserved: %s until %s; %s has %d of %s tokens left, refills %s", name(t.ID), t.Expires.Format(time.RFC3339),
		bucketName(t.Limit, t.Key), t.Remaining, number(t.Capacity), rate(t.Rate))
	return nil
}

type settleCmd struct {
	ID   string `arg:"" help:"What \"openclawctl reserve\" showed."`
	Used int64  `required:"" placeholder:"N" help:"Tokens that it really took; 0: none."`
}

func (*settleCmd) Help() string {
	return `Replaces a reservation's estimate by what was used: the rest is given back, or taken. Any node will do, and
sending it again changes nothing.

    openclawctl settle gfjR…tQ --used 812`
}

func (c *settleCmd) Run(s *session) error {
	var t struct {
		Limit    string `json:"limit"`
		Key      string `json:"key"`
		Reserved int64  `json:"reserved"`
		Used     int64  `json:"used"`
		Applied  bool   `json:"applied"`
		Again    bool   `json:"again"`
	}
	status, err := s.ask("POST", fmt.Sprintf("/v1/settle/%s?used=%d", url.PathEscape(c.ID), c.Used), &t)
	if err != nil {
		return err
	}
	if status == 202 {
		s.say("noted: this node has not heard of the reservation yet; the settlement waits for it")
		return nil
	}
	note := ""
	if !t.Applied {
		note += "; on its way to the node that reserved it"
	}
	if t.Again {
		note += "; as was settled before"
	}
	s.say("settled: %d of %d reserved tokens of %s were used%s", t.Used, t.Reserved, bucketName(t.Limit, t.Key), note)
	return nil
}
