package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Reservation is an estimate taken from a bucket until it is settled. Without Result.Allowed there
// is none.
type Reservation struct {
	Result
	ID      string    `json:"id"`
	Expires time.Time `json:"expires_at"` // unless it is settled, the estimate is given back then
}

// Settlement is what the node knows of a reservation that was settled.
type Settlement struct {
	ID       string `json:"id"`
	Limit    string `json:"limit"` // "": the node has not heard of the reservation yet, and noted what was used
	Key      string `json:"key"`
	Reserved int64  `json:"reserved"`
	Used     int64  `json:"used"`
	Applied  bool   `json:"applied"` // the bucket bears what was used, in place of the estimate
	Again    bool   `json:"again"`   // the same had been settled before
}

// Reserve takes an estimate of cost tokens from key's bucket and keeps it for ttl (0: the node's
// default, a minute): say before a call of a language model. A dry bucket is a Reservation that is
// not Allowed. Errors are as Take's; what was taken when nobody heard the answer is given back
// after ttl.
func (c *Client) Reserve(ctx context.Context, limit, key string, cost int64, ttl time.Duration) (*Reservation, error) {
	to := "/v1/reserve/" + url.PathEscape(limit) + "/" + url.PathEscape(key) + "?cost=" + strconv.FormatInt(cost, 10)
	if ttl > 0 {
		to += "&ttl=" + ttl.String()
	}
	return guarded(ctx, c, func(ctx context.Context) (*Reservation, error) {
		resp, body, err := c.post(ctx, to)
		if err != nil {
			return nil, err
		}
		if refused := refusal(resp.StatusCode, body); refused != nil {
			return nil, refused
		}
		res, err := decode(resp, body)
		if err != nil {
			return nil, err
		}
		out := &Reservation{}
		if err := json.Unmarshal(body, out); err != nil || res.Allowed && out.ID == "" {
			return nil, fmt.Errorf("client: %s is not the answer of a node; is Addr that of its API?", resp.Status)
		}
		out.Result = *res
		return out, nil
	})
}

// Settle replaces a reservation's estimate by what was used, on whatever node c asks. Sent again it
// changes nothing, so who had no answer asks again. The error is a *CallError when the node says
// no: with Status 409 another figure is recorded, with 410 the reservation has ended.
func (c *Client) Settle(ctx context.Context, id string, used int64) (*Settlement, error) {
	to := "/v1/settle/" + url.PathEscape(id) + "?used=" + strconv.FormatInt(used, 10)
	return guarded(ctx, c, func(ctx context.Context) (*Settlement, error) {
		resp, body, err := c.post(ctx, to)
		if err != nil {
			return nil, err
		}
		if refused := refusal(resp.StatusCode, body); refused != nil {
			return nil, refused
		}
		out := &Settlement{}
		answered := resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusAccepted
		if err := json.Unmarshal(body, out); !answered || err != nil || out.ID != id || out.Used != used {
			return nil, fmt.Errorf("client: %s is not the answer of a node; is Addr that of its API?", resp.Status)
		}
		return out, nil
	})
}

// refusal is a node's no to a call that it understood; nil if that is not what it is.
func refusal(status int, body []byte) error {
	switch status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusGone, http.StatusServiceUnavailable:
		var p struct{ Detail string }
		if json.Unmarshal(body, &p) == nil && p.Detail != "" {
			return &CallError{status, p.Detail}
		}
	}
	return nil
}

// guarded is one call behind the breaker.
func guarded[T any](ctx context.Context, c *Client, call func(ctx context.Context) (*T, error)) (out *T, err error) {
	_, err = c.breaker.Execute(func() (*Result, error) {
		within, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, fmt.Errorf("no answer within %v", c.cfg.Timeout))
		defer cancel()
		if out, err = call(within); err != nil && ctx.Err() != nil && !errors.As(err, new(*CallError)) {
			err = fmt.Errorf("%w: %w", errAbandoned, ctx.Err())
		}
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
