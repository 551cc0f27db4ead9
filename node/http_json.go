package node

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"

	"github.com/openclaw/edge/crdt"
)

var (
	jsonType = []string{"application/json"} // shared, never written to: net/http clones headers
	buffers  = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}
)

// reply answers with v as JSON.
func reply(w http.ResponseWriter, status int, v any) int {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types
	}
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
	return status
}

// appendDecision is the body of a take, as contract.md has it.
func appendDecision(b []byte, d *Decision, key string) []byte {
	f := &d.Limit.face
	b = append(b, `{"allowed":`...)
	b = strconv.AppendBool(b, d.Allowed)
	b = append(b, f.limit...)
	b = appendString(b, key)
	b = append(b, `,"cost":`...)
	b = strconv.AppendInt(b, d.Cost, 10)
	b = append(b, `,"remaining":`...)
	b = strconv.AppendInt(b, wholeTokens(d.Level), 10)
	b = append(b, f.terms...)
	b = strconv.AppendInt(b, ceil(d.RetryAfter, 1e6), 10)
	b = append(b, `,"backup":`...)
	b = strconv.AppendBool(b, d.Backup)
	return append(b, '}')
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s)
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// milli is an amount of tokens as an exact JSON number: 99, 0.5, -12.25.
type milli crdt.Milli

func (m milli) MarshalJSON() ([]byte, error) { return appendTokens(nil, crdt.Milli(m)), nil }

func appendTokens(b []byte, m crdt.Milli) []byte {
	if m < 0 {
		b, m = append(b, '-'), -m
	}
	b = strconv.AppendInt(b, int64(m/crdt.Token), 10)
	if part := int64(m % crdt.Token); part > 0 {
		digits := strconv.Itoa(int(crdt.Token) + int(part))[1:] // with its leading zeros
		for digits[len(digits)-1] == '0' {
			digits = digits[:len(digits)-1]
		}
		b = append(append(b, '.'), digits...)
	}
	return b
}

// perSecond is a refill rate as a JSON number of tokens per second.
type perSecond struct{ crdt.Rate }

func (r perSecond) MarshalJSON() ([]byte, error) { return appendRate(nil, r.Rate), nil }

func appendRate(b []byte, r crdt.Rate) []byte {
	return strconv.AppendFloat(b, r.PerSecond(), 'f', -1, 64)
}
