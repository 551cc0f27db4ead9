package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// maxBody bounds what is read of an answer: a scrape of some thousand series is the largest.
const maxBody = 16 << 20

// Do makes a request of the API and reads the answer. A bearer of the operator's token, if there
// is one, may call /-/ from another machine.
func (p *Process) Do(method, path, token string) (status int, body []byte, err error) {
	return p.request(method, "http://"+p.HTTP+path, token)
}

func (p *Process) request(method, address, token string) (status int, body []byte, err error) {
	req, err := http.NewRequest(method, address, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("process: %w", err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("process: %w", err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return 0, nil, fmt.Errorf("process: %s: %w", address, err)
	}
	return resp.StatusCode, body, nil
}

// Status is the status of a GET; 0 if there was no answer.
func (p *Process) Status(path string) int {
	status, _, _ := p.Do("GET", path, "")
	return status
}

// Get reads a JSON body into v; false if there was no good answer.
func (p *Process) Get(path string, v any) bool {
	status, body, err := p.Do("GET", path, "")
	return err == nil && status == http.StatusOK && json.Unmarshal(body, v) == nil
}

// Post posts without a body and returns the status, 0 if there was no answer.
func (p *Process) Post(path string) int {
	status, _, _ := p.Do("POST", path, "")
	return status
}

// Taken is the body of a take.
type Taken struct {
	Allowed   bool    `json:"allowed"`
	Remaining float64 `json:"remaining"`
	Backup    bool    `json:"backup"`
}

// Take takes one token; ok is false if there was no answer.
func (p *Process) Take(limit, key string) (t Taken, ok bool) {
	t, err := p.TakeN(limit, key, 1)
	return t, err == nil
}

// TakeN takes so many tokens. An error is anything but the two answers of a take.
func (p *Process) TakeN(limit, key string, cost int64) (t Taken, err error) {
	path := "/v1/take/" + url.PathEscape(limit) + "/" + url.PathEscape(key)
	if cost != 1 {
		path += "?cost=" + strconv.FormatInt(cost, 10)
	}
	status, body, err := p.Do("POST", path, "")
	if err != nil {
		return t, err
	}
	if status != http.StatusOK && status != http.StatusTooManyRequests {
		return t, fmt.Errorf("process: take of %s/%s on %s: %d %s", limit, key, p.Node, status, body)
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return t, fmt.Errorf("process: take: %w", err)
	}
	return t, nil
}

// Exposition is all that /metrics says, in Prometheus' text format.
func (p *Process) Exposition() (string, error) {
	status, body, err := p.request("GET", "http://"+p.Metrics+"/metrics", "")
	if err == nil && status != http.StatusOK {
		err = errors.New("process: /metrics: " + http.StatusText(status))
	}
	return string(body), err
}

// Metric reads one series, named as it stands in the exposition; -1 if it is not there.
func (p *Process) Metric(series string) float64 {
	text, err := p.Exposition()
	if err != nil {
		return -1
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			var v float64
			if _, err := fmt.Sscan(rest, &v); err == nil {
				return v
			}
		}
	}
	return -1
}
