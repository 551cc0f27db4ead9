package kv

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// list is GET …/keys. A cursor is the last name of the page before, and whether an empty page
// came since.
func (s *Server) list(c call) reply {
	limit := maxPage
	if text := c.query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 10 || n > maxPage {
			return failure(http.StatusBadRequest, 10007, "limit must be 10 to 1000")
		}
		limit = n
	}
	after, rested := "", false
	if text := c.query.Get("cursor"); text != "" {
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(raw) == 0 || raw[0] != 'k' && raw[0] != 'e' {
			return failure(http.StatusBadRequest, 10008, "malformed cursor")
		}
		after, rested = string(raw[1:]), raw[0] == 'e'
	}
	cursor := func(kind, name string) string { return base64.RawURLEncoding.EncodeToString([]byte(kind + name)) }
	if s.cfg.EmptyPages && !rested {
		return success([]any{}, &resultInfo{Cursor: cursor("e", after)})
	}
	page, more := s.state.page(c.query.Get("prefix"), after, limit)
	result := make([]map[string]any, len(page))
	for i, p := range page {
		result[i] = map[string]any{"name": p.name}
		if p.Metadata != nil {
			result[i]["metadata"] = p.Metadata
		}
		if !p.Expires.IsZero() {
			result[i]["expiration"] = p.Expires.Unix()
		}
	}
	info := &resultInfo{Count: len(page)}
	if more {
		info.Cursor = cursor("k", page[len(page)-1].name)
	}
	s.counted(len(page))
	return success(result, info)
}

// The calls for one value follow. They are for people and judges: a node uses bulk calls only.

func (s *Server) valueGet(c call) reply {
	p, ok := s.state.read(c.key)
	if !ok {
		return failure(http.StatusNotFound, 10009, "get: 'key not found'")
	}
	s.counted(1)
	return reply{status: http.StatusOK, contentType: "application/octet-stream", body: p.Value}
}

func (s *Server) metadata(c call) reply {
	p, ok := s.state.read(c.key)
	if !ok {
		return failure(http.StatusNotFound, 10009, "get: 'key not found'")
	}
	s.counted(1)
	return success(p.Metadata, nil)
}

func (s *Server) valueDelete(c call) reply {
	s.state.write(c.key, version{gone: true})
	s.counted(1)
	return success(struct{}{}, nil)
}

func (s *Server) valuePut(c call) reply {
	value, meta, err := parts(c)
	if err != nil {
		return failure(http.StatusBadRequest, 10029, "malformed multipart body")
	}
	ttl, err1 := seconds(c.query, "expiration_ttl")
	expiration, err2 := seconds(c.query, "expiration")
	if err1 != nil || err2 != nil {
		return failure(http.StatusBadRequest, 10047, "malformed expiration")
	}
	text := string(value)
	v, problem := bulkPair{Key: &c.key, Value: &text, Expiration: expiration, TTL: ttl, Metadata: meta}.version()
	if problem != "" {
		return failure(http.StatusBadRequest, 10047, problem)
	}
	s.state.write(c.key, v)
	s.counted(1)
	return success(struct{}{}, nil)
}

func seconds(query url.Values, name string) (*float64, error) {
	if !query.Has(name) {
		return nil, nil
	}
	n, err := strconv.ParseFloat(query.Get(name), 64)
	return &n, err
}

// parts is the value and the metadata of a put: the body, or the fields of a form.
func parts(c call) (value []byte, metadata json.RawMessage, err error) {
	kind, params, _ := mime.ParseMediaType(c.header.Get("Content-Type"))
	if !strings.HasPrefix(kind, "multipart/") {
		return c.body, nil, nil
	}
	form := multipart.NewReader(bytes.NewReader(c.body), params["boundary"])
	for {
		part, err := form.NextPart()
		if err == io.EOF {
			return value, metadata, nil
		}
		if err != nil {
			return nil, nil, err
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return nil, nil, err
		}
		switch part.FormName() {
		case "value":
			value = content
		case "metadata":
			if len(content) > 0 && !json.Valid(content) {
				content, _ = json.Marshal(string(content))
			}
			metadata = content
		}
	}
}
