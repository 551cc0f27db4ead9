package kv

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"
	"unicode/utf8"
)

// bulkResult is the answer to a bulk put or delete.
type bulkResult struct {
	Successful   int      `json:"successful_key_count"`
	Unsuccessful []string `json:"unsuccessful_keys"`
}

type bulkPair struct {
	Key        *string         `json:"key"`
	Value      *string         `json:"value"`
	Base64     bool            `json:"base64"`
	Expiration *float64        `json:"expiration"`     // seconds since 1970
	TTL        *float64        `json:"expiration_ttl"` // seconds; wins over Expiration
	Metadata   json.RawMessage `json:"metadata"`
}

func (s *Server) bulkPut(c call) reply {
	var pairs []bulkPair
	if err := json.Unmarshal(c.body, &pairs); err != nil || !utf8.Valid(c.body) {
		return failure(http.StatusBadRequest, 10029, "the body is no array of key-value pairs")
	}
	if len(pairs) > maxPairs {
		return failure(http.StatusBadRequest, 10030, "more than 10,000 pairs")
	}
	versions := make([]version, len(pairs))
	for i, p := range pairs { // all are checked before any is stored
		v, problem := p.version()
		if problem != "" {
			return failure(http.StatusBadRequest, 10047, problem)
		}
		versions[i] = v
	}
	result := bulkResult{Unsuccessful: []string{}}
	for i, p := range pairs {
		if s.unlucky(c) {
			result.Unsuccessful = append(result.Unsuccessful, *p.Key)
			continue
		}
		s.state.write(*p.Key, versions[i])
		result.Successful++
	}
	s.counted(len(pairs))
	return success(result, nil)
}

// version is what p asks to be stored, or what is wrong with it.
func (p bulkPair) version() (v version, problem string) {
	if p.Key == nil || p.Value == nil {
		return v, "a pair without key or value"
	}
	if problem := badKey(*p.Key); problem != "" {
		return v, problem
	}
	v.Value = []byte(*p.Value)
	if p.Base64 {
		raw, err := base64.StdEncoding.DecodeString(*p.Value)
		if err != nil {
			return v, "a value that is not base64"
		}
		v.Value = raw
	}
	switch {
	case len(v.Value) > maxValue:
		return v, "a value of more than 25 MiB"
	case len(p.Metadata) > maxMetadata:
		return v, "metadata of more than 1024 bytes"
	}
	if string(p.Metadata) != "null" {
		v.Metadata = p.Metadata
	}
	v.Expires, problem = expires(p.TTL, p.Expiration)
	return v, problem
}

func badKey(key string) string {
	switch {
	case key == "" || key == "." || key == "..":
		return "a key that is empty, . or .."
	case len(key) > maxKey:
		return "a key of more than 512 bytes"
	}
	return ""
}

func expires(ttl, expiration *float64) (at time.Time, problem string) {
	now := time.Now()
	switch {
	case ttl != nil && *ttl < minTTL:
		return at, "expiration_ttl must be at least 60"
	case ttl != nil:
		return now.Add(time.Duration(*ttl * float64(time.Second))), ""
	case expiration != nil:
		at = time.Unix(int64(*expiration), 0)
		if at.Before(now.Add(minTTL * time.Second)) {
			return at, "expiration must be at least 60 seconds from now"
		}
	}
	return at, ""
}

func (s *Server) bulkGet(c call) reply {
	var ask struct {
		Keys         []string `json:"keys"`
		Type         string   `json:"type"`
		WithMetadata bool     `json:"withMetadata"`
	}
	if err := json.Unmarshal(c.body, &ask); err != nil || ask.Type != "" && ask.Type != "text" && ask.Type != "json" {
		return failure(http.StatusBadRequest, 10029, "the body is no {keys, type, withMetadata}")
	}
	if len(ask.Keys) == 0 || len(ask.Keys) > maxGetKeys {
		return failure(http.StatusBadRequest, 10030, "1 to 100 keys can be asked for")
	}
	values, size := map[string]any{}, 0
	for _, key := range ask.Keys {
		if problem := badKey(key); problem != "" {
			return failure(http.StatusBadRequest, 10047, problem)
		}
		p, ok := s.state.read(key)
		if !ok {
			values[key] = nil // so the binding does; the API's documents do not say
			continue
		}
		size += len(p.Value)
		var value any = string(p.Value) // what is not UTF-8 is mangled here, as bulk get is for text
		if ask.Type == "json" && json.Valid(p.Value) {
			value = json.RawMessage(p.Value)
		}
		if ask.WithMetadata {
			with := map[string]any{"value": value, "metadata": p.Metadata}
			if !p.Expires.IsZero() {
				with["expiration"] = p.Expires.Unix()
			}
			value = with
		}
		values[key] = value
	}
	s.counted(len(ask.Keys))
	if size > s.cfg.AnswerLimit {
		return failure(http.StatusRequestEntityTooLarge, 10000, "Total size of request exceeds the limit of 25MB")
	}
	return success(map[string]any{"values": values}, nil)
}

func (s *Server) bulkDelete(c call) reply {
	var keys []string
	if err := json.Unmarshal(c.body, &keys); err != nil {
		return failure(http.StatusBadRequest, 10029, "the body is no array of keys")
	}
	if len(keys) > maxPairs {
		return failure(http.StatusBadRequest, 10030, "more than 10,000 keys")
	}
	result := bulkResult{Unsuccessful: []string{}}
	for _, key := range keys {
		if s.unlucky(c) {
			result.Unsuccessful = append(result.Unsuccessful, key)
			continue
		}
		s.state.write(key, version{gone: true})
		result.Successful++
	}
	s.counted(len(keys))
	return success(result, nil)
}
