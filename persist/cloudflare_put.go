package persist

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/cloudflare/cloudflare-go/v7/kv"
	"github.com/cloudflare/cloudflare-go/v7/option"
)

// Limits of a call. Cloudflare takes twice the bytes in a put, and six times the value; half a
// put is what passes the proxies of this world.
const (
	maxPairs      = 10_000
	maxPutBytes   = 50_000_000
	maxValueBytes = 4 << 20 // of Data; base64 makes a third more of it
	maxKeyBytes   = 512
	leastTTL      = time.Minute
	maxGetKeys    = 100
	maxGetBytes   = 20_000_000 // expected; the limit is 25 MB
	unknownSize   = 256 << 10  // what is expected of a value whose size no listing told
	pairBytes     = 160        // what JSON, metadata and expiration add to a pair
	maxPages      = 10_000     // of a listing: ten million keys

	// How often a call that is rejected as a whole is halved, to find the culprit.
	putSplits = 16
	getSplits = maxGetKeys
)

// kvPair is an element of a bulk put. The library's own type is encoded by reflection with several
// copies of every value, and its size is not known before.
type kvPair struct {
	Key      string     `json:"key"`
	Value    []byte     `json:"value"`                    // JSON makes base64 of it
	TTL      float64    `json:"expiration_ttl,omitempty"` // seconds
	Metadata kvMetadata `json:"metadata"`
}

// kvMetadata is a value's. The version is text: not every server's numbers have 64 bits.
type kvMetadata struct {
	Version json.Number `json:"v"` // decoded from text or number
	Size    int         `json:"n"` // bytes of Data
}

func (m kvMetadata) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `{"v":"%s","n":%d}`, m.Version, m.Size), nil
}

// Put stores values in as few calls as their size allows, mostly one. What is too large, or has
// no proper key, is Rejected without a call; a TTL of less than a minute is a minute. An Unknown
// put may be applied later, even after a newer one that was acknowledged.
func (c *Cloudflare) Put(ctx context.Context, values []Value) error {
	failed := map[string]*Error{}
	newest := map[string]int{} // by key: where in fit; a bulk with a key twice is refused
	var fit []Value
	for _, v := range values {
		if err := unfit(v); err != nil {
			failed[v.Key] = c.failed("put", Rejected, err)
			continue
		}
		if i, twice := newest[v.Key]; twice {
			if v.Version > fit[i].Version {
				fit[i] = v
			}
			continue
		}
		newest[v.Key] = len(fit)
		fit = append(fit, v)
	}
	weigh := func(v Value) int { return base64.StdEncoding.EncodedLen(len(v.Data)) + 6*len(v.Key) + pairBytes }
	name := func(v Value) string { return v.Key }
	return inGroups(groups(fit, weigh, maxPairs, maxPutBytes), name, failed, putSplits, func(group []Value) (map[string]*Error, error) {
		return c.putGroup(ctx, group)
	})
}

// unfit is why v can never be stored.
func unfit(v Value) error {
	switch {
	case v.Key == "" || v.Key == "." || v.Key == ".." || len(v.Key) > maxKeyBytes:
		return fmt.Errorf("a key of %d bytes: 1 to %d are possible", len(v.Key), maxKeyBytes)
	case len(v.Data) > maxValueBytes:
		return fmt.Errorf("a value of %d bytes: split it, %d are possible", len(v.Data), maxValueBytes)
	}
	return nil
}

func (c *Cloudflare) putGroup(ctx context.Context, group []Value) (map[string]*Error, error) {
	pairs := make([]kvPair, len(group))
	keys := make([]string, len(group))
	for i, v := range group {
		keys[i] = v.Key
		if v.Data == nil {
			v.Data = []byte{} // not null
		}
		pairs[i] = kvPair{
			Key:      v.Key,
			Value:    v.Data,
			Metadata: kvMetadata{json.Number(strconv.FormatUint(v.Version, 10)), len(v.Data)},
		}
		if v.TTL > 0 {
			pairs[i].TTL = math.Ceil(max(v.TTL, leastTTL).Seconds())
		}
	}
	body, err := json.Marshal(pairs)
	if err != nil {
		return nil, c.failed("put", Rejected, err)
	}
	var params kv.NamespaceBulkUpdateParams
	params.AccountID.Value, params.AccountID.Present = c.account, true
	a, e := c.exchange(ctx, request{op: "put", size: len(body), write: true, do: func(ctx context.Context, opts ...option.RequestOption) error {
		_, err := c.api.BulkUpdate(ctx, c.namespace, params, append(opts, option.WithRequestBody("application/json", body))...)
		return err
	}})
	if e != nil {
		return nil, e
	}
	return c.acknowledged("put", a, keys)
}

// acknowledged reads the answer to a bulk put or delete: which of keys it was not done for. An
// answer without counts is a yes.
func (c *Cloudflare) acknowledged(op string, a answer, keys []string) (map[string]*Error, error) {
	var result struct {
		Count        *int     `json:"successful_key_count"`
		Unsuccessful []string `json:"unsuccessful_keys"`
	}
	if len(a.result) > 0 && json.Unmarshal(a.result, &result) != nil {
		return nil, c.failed(op, Unknown, errors.New("the answer does not say for which keys it was done"))
	}
	if result.Count != nil && *result.Count < len(keys) && len(result.Unsuccessful) == 0 {
		return nil, c.failed(op, Unknown, fmt.Errorf("done for %d of %d keys, without saying for which", *result.Count, len(keys)))
	}
	if len(result.Unsuccessful) == 0 {
		return nil, nil
	}
	unsuccessful, sent := map[string]*Error{}, map[string]bool{}
	for _, key := range keys {
		sent[key] = true
	}
	for _, key := range result.Unsuccessful {
		if !sent[key] {
			return nil, c.failed(op, Unknown, errors.New("not done for a key that was not sent"))
		}
		e := c.failed(op, Failed, errors.New("not done for this key"))
		e.Until = time.Now().Add(keyPause)
		unsuccessful[key] = e
	}
	return unsuccessful, nil
}

// Delete removes keys, 10,000 a call, whatever their version: KV does not compare.
func (c *Cloudflare) Delete(ctx context.Context, keys []Entry) error {
	weigh := func(e Entry) int { return 6 * len(e.Key) }
	name := func(e Entry) string { return e.Key }
	return inGroups(groups(keys, weigh, maxPairs, maxPutBytes), name, map[string]*Error{}, putSplits, func(group []Entry) (map[string]*Error, error) {
		var params kv.NamespaceBulkDeleteParams
		params.AccountID.Value, params.AccountID.Present = c.account, true
		for _, e := range group {
			params.Body = append(params.Body, e.Key)
		}
		a, e := c.exchange(ctx, request{op: "delete", write: true, do: func(ctx context.Context, opts ...option.RequestOption) error {
			_, err := c.api.BulkDelete(ctx, c.namespace, params, opts...)
			return err
		}})
		if e != nil {
			return nil, e
		}
		return c.acknowledged("delete", a, params.Body)
	})
}
