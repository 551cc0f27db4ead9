package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

type ratingsCmd struct {
	Subject string `arg:"" optional:"" help:"What was rated."`
	Top     int    `placeholder:"N" help:"The best N, by the lower bound of the Wilson interval."`
	Prefix  string `placeholder:"TEXT" help:"With --top: only subjects that begin so."`
}

func (*ratingsCmd) Help() string {
	return `One subject's votes, score and lower Wilson bound, or a ranking by that bound.

    openclawctl ratings product-17
    openclawctl ratings --top 10 --prefix product-`
}

func (c *ratingsCmd) Run(s *session) error {
	path := "/v1/ratings/" + url.PathEscape(c.Subject)
	switch {
	case (c.Subject == "") == (c.Top == 0):
		return usageError{errors.New("name a subject or write --top N, as in: openclawctl ratings --top 10")}
	case c.Top < 0 || c.Prefix != "" && c.Top == 0:
		return usageError{errors.New("--prefix goes with --top N, and N is positive")}
	case c.Top > 0:
		path = fmt.Sprintf("/v1/ratings?top=%d&prefix=%s", c.Top, url.QueryEscape(c.Prefix))
	}
	var body json.RawMessage
	if _, err := s.ask("GET", path, &body); err != nil || s.json {
		return err
	}
	var ranking struct {
		Ratings []json.RawMessage `json:"ratings"`
	}
	if json.Unmarshal(body, &ranking); ranking.Ratings != nil {
		return rankingTable(s, ranking.Ratings)
	}
	fields, values, err := ordered(body)
	if err != nil {
		return err
	}
	var rows [][]string
	for i, f := range fields[min(1, len(fields)):] {
		rows = append(rows, []string{f, values[i+1]})
	}
	if len(fields) > 0 {
		table(s.out, fields[0]+"|"+values[0], rows)
	}
	return nil
}

// rankingTable has a column for each field of the first row: a newer node may say more of a
// subject than this program knows of.
func rankingTable(s *session, ratings []json.RawMessage) error {
	if len(ratings) == 0 {
		s.say("nothing is rated yet")
		return nil
	}
	var header []string
	var rows [][]string
	for _, r := range ratings {
		fields, values, err := ordered(r)
		if err != nil {
			return err
		}
		if header == nil {
			header = fields
		}
		rows = append(rows, values)
	}
	for i, h := range header {
		header[i] = strings.ToUpper(strings.ReplaceAll(h, "_", " "))
	}
	table(s.out, strings.Join(header, "|"), rows)
	return nil
}

// ordered reads an object's fields in the order they stand in.
func ordered(object []byte) (fields, values []string, err error) {
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, errors.New("the node's answer is no JSON object; -o json shows it as it is")
	}
	for d.More() {
		field, err := d.Token()
		if err != nil {
			return nil, nil, err
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, nil, err
		}
		text := string(raw)
		var word string
		if json.Unmarshal(raw, &word) == nil && raw[0] == '"' {
			text = name(word)
		}
		fields, values = append(fields, name(field.(string))), append(values, text)
	}
	return fields, values, nil
}
