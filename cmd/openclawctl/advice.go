package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
)

// unreachable says what to try when there was no answer.
func (a *api) unreachable(err error) error {
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err // without the method and the whole URL
	}
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no node answers at %s: connection refused\nIs it running? \"openclaw-edge\" starts one here; --addr or OPENCLAW_ADDR names another", a.base)
	case errors.As(err, &dns):
		return fmt.Errorf("no node at %s: %w\nIs the name in --addr or OPENCLAW_ADDR right?", a.base, dns)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer from %s within %v\nIs the address right, and not behind a firewall? --timeout waits longer", a.base, a.timeout)
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("%s does not speak TLS\nWrite --addr http://…", a.base)
	case a.who.asked.Load():
		return a.who.refused(a.base, err)
	}
	if why := distrusted(a.base, err); why != nil {
		return why
	}
	return fmt.Errorf("%s: %w", a.base, err)
}

// advice adds to a node's words what the node cannot know.
func (a *api) advice(status int, detail, path string, withToken bool) string {
	switch {
	case status == http.StatusUnauthorized && withToken:
		return "The token in " + tokenEnv + " is not that node's"
	case status == http.StatusUnauthorized:
		return "For openclawctl, put that token into the environment variable " + tokenEnv
	case status == http.StatusNotFound && strings.HasPrefix(detail, "nothing is at this path"):
		path, _, _ = strings.Cut(path, "?")
		return fmt.Sprintf("This node does not know %s: it is older than this openclawctl, or --addr is not its API", path)
	}
	return ""
}

// meant adds to an unknown name the names that there are, and the one that may have been meant.
func (s *session) meant(err error, name, path, list, field string) error {
	var p *problem
	if !errors.As(err, &p) || p.status != http.StatusNotFound || p.advice != "" {
		return err
	}
	there, failed := s.names(path, list, field)
	if failed != nil || len(there) == 0 {
		return err
	}
	p.advice = "There are: " + strings.Join(there, ", ")
	if near := nearest(name, there); near != "" {
		p.advice += fmt.Sprintf("\nDid you mean %q?", near)
	}
	return err
}

// names lists a field of what a call lists.
func (s *session) names(path, list, field string) ([]string, error) {
	got, err := s.api.call(s.ctx, "GET", path)
	if err != nil {
		return nil, err
	}
	var whole map[string]json.RawMessage
	var rows []map[string]any
	if err := json.Unmarshal(got.body, &whole); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(whole[list], &rows); err != nil {
		return nil, err
	}
	var all []string
	for _, row := range rows {
		if name, ok := row[field].(string); ok {
			all = append(all, name)
		}
	}
	return all, nil
}

func (s *session) limitNames() ([]string, error)  { return s.names("/v1/limits", "limits", "name") }
func (s *session) memberNames() ([]string, error) { return s.names("/v1/cluster", "members", "node") }

// nearest is the name that a slip of the fingers makes of what was typed; "" if none is near.
func nearest(typed string, names []string) string {
	best, name := max(1, len(typed)/3)+1, ""
	for _, n := range names {
		if d := distance(typed, n); d < best {
			best, name = d, n
		}
	}
	return name
}

// distance is Levenshtein's: letters to put in, leave out or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = slices.Min([]int{change, row[j] + 1, row[j+1] + 1})
		}
	}
	return row[len(b)]
}
