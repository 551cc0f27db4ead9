package persist

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/cloudflare/cloudflare-go/v7/kv"
	"github.com/cloudflare/cloudflare-go/v7/option"
)

// Get reads 100 keys a call, or fewer where their sizes say that an answer would become too
// large. A value that is no base64 is handed on as it stands: the reader's checksum will tell.
func (c *Cloudflare) Get(ctx context.Context, keys []Entry, each func(Value) error) error {
	weigh := func(e Entry) int {
		size := e.Size
		if size == 0 {
			size = unknownSize
		}
		return base64.StdEncoding.EncodedLen(size) + 6*len(e.Key) + pairBytes
	}
	name := func(e Entry) string { return e.Key }
	return inGroups(groups(keys, weigh, maxGetKeys, c.getBytes), name, map[string]*Error{}, getSplits, func(group []Entry) (map[string]*Error, error) {
		size := 0
		for _, e := range group {
			size += weigh(e)
		}
		return nil, c.getGroup(ctx, group, size, each)
	})
}

func (c *Cloudflare) getGroup(ctx context.Context, group []Entry, size int, each func(Value) error) error {
	var params kv.NamespaceBulkGetParams
	params.AccountID.Value, params.AccountID.Present = c.account, true
	params.Type.Value, params.Type.Present = kv.NamespaceBulkGetParamsTypeText, true
	params.WithMetadata.Value, params.WithMetadata.Present = true, true
	params.Keys.Present = true
	for _, e := range group {
		params.Keys.Value = append(params.Keys.Value, e.Key)
	}
	var fast kvValues
	a, e := c.exchange(ctx, request{op: "get", size: size, into: &fast, do: func(ctx context.Context, opts ...option.RequestOption) error {
		fast = kvValues{} // of an earlier try
		_, err := c.api.BulkGet(ctx, c.namespace, params, opts...)
		return err
	}})
	if e != nil {
		return e
	}
	var slow struct {
		Values map[string]json.RawMessage `json:"values"`
	}
	if len(a.result) > 0 && json.Unmarshal(a.result, &slow) != nil {
		return c.failed("get", Failed, errors.New("the answer has no values in it: check base_url"))
	}
	for _, entry := range group {
		found := fast.Values[entry.Key]
		if !a.into {
			found = readValue(slow.Values[entry.Key])
		}
		if found == nil || found.Value == nil {
			continue
		}
		version, _ := readMetadata(found.Metadata)
		if err := each(Value{Key: entry.Key, Version: version, Data: found.Value}); err != nil {
			return &fromEach{err}
		}
	}
	return nil
}

// kvValues is the result of a bulk get as it should be: an absent key is null, or left out, or
// has a value of null.
type kvValues struct {
	Values map[string]*kvFound `json:"values"`
}

type kvFound struct {
	Value    []byte          `json:"value"` // JSON decodes its base64
	Metadata json.RawMessage `json:"metadata"`
}

// readValue decodes an element of a bulk get of which not all are as they should be: a value
// may stand there without metadata, or be no base64.
func readValue(raw json.RawMessage) *kvFound {
	var pair struct {
		Value    json.RawMessage `json:"value"`
		Metadata json.RawMessage `json:"metadata"`
	}
	if json.Unmarshal(raw, &pair) != nil {
		pair.Value = raw
	}
	if len(pair.Value) == 0 || string(pair.Value) == "null" {
		return nil
	}
	var text string
	if json.Unmarshal(pair.Value, &text) != nil {
		text = string(pair.Value)
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		data = []byte(text)
	}
	return &kvFound{data, pair.Metadata}
}

// readMetadata is version and size; zeros where there are none, or not ours.
func readMetadata(raw json.RawMessage) (version uint64, size int) {
	var m kvMetadata
	if json.Unmarshal(raw, &m) != nil {
		return 0, 0
	}
	version, err := strconv.ParseUint(m.Version.String(), 10, 64)
	if err != nil {
		return 0, 0
	}
	return version, max(0, m.Size)
}

// List pages through all keys with prefix, over empty pages that have a cursor.
func (c *Cloudflare) List(ctx context.Context, prefix string) ([]Entry, error) {
	var params kv.NamespaceKeyListParams
	params.AccountID.Value, params.AccountID.Present = c.account, true
	params.Prefix.Value, params.Prefix.Present = prefix, prefix != ""
	var all []Entry
	for range maxPages {
		a, e := c.exchange(ctx, request{op: "list", do: func(ctx context.Context, opts ...option.RequestOption) error {
			_, err := c.api.Keys.List(ctx, c.namespace, params, opts...)
			return err
		}})
		if e != nil {
			return nil, e
		}
		var page []struct {
			Name     string          `json:"name"`
			Metadata json.RawMessage `json:"metadata"`
		}
		if len(a.result) > 0 && json.Unmarshal(a.result, &page) != nil {
			return nil, c.failed("list", Failed, errors.New("the answer is no list of keys: check base_url"))
		}
		for _, k := range page {
			version, size := readMetadata(k.Metadata)
			all = append(all, Entry{k.Name, version, size})
		}
		if a.cursor == "" {
			return all, nil
		}
		if a.cursor == params.Cursor.Value {
			break
		}
		params.Cursor.Value, params.Cursor.Present = a.cursor, true
	}
	return nil, c.failed("list", Failed, errors.New("the listing does not come to an end"))
}
