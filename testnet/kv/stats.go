package kv

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Stats counts since New.
type Stats struct {
	Calls  map[string]int `json:"calls"`  // by op: what arrived, faults included
	Faults map[Kind]int   `json:"faults"` // calls that met one
	Keys   int            `json:"keys"`   // of bulk calls, lists and values
	In     int64          `json:"in"`     // bytes of bodies
	Out    int64          `json:"out"`
	Log    []Call         `json:"log"` // the newest 65,536, by arrival
}

// Call is one that arrived.
type Call struct {
	Op string    `json:"op"`
	At time.Time `json:"at"`
}

// Total is how many calls arrived.
func (s Stats) Total() (n int) {
	for _, calls := range s.Calls {
		n += calls
	}
	return n
}

// Fullest is how many of the calls in Log arrived in the fullest stretch of so long.
func (s Stats) Fullest(stretch time.Duration) (most int) {
	from := 0
	for i, c := range s.Log {
		for c.At.Sub(s.Log[from].At) >= stretch {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// Stats is a copy of the counts.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Calls, out.Faults, out.Log = maps.Clone(out.Calls), maps.Clone(out.Faults), slices.Clone(out.Log)
	return out
}

// arrived counts a call and picks its fault.
func (s *Server) arrived(op string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.stats.Calls[op]++
	if len(s.stats.Log) == logCapacity {
		s.stats.Log = slices.Delete(s.stats.Log, 0, logCapacity/2)
	}
	s.stats.Log = append(s.stats.Log, Call{op, now})
	f := s.pick(op, now)
	if f.Kind != "" {
		s.stats.Faults[f.Kind]++
	}
	return f
}

func (s *Server) served(in, out int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.In += int64(in)
	s.stats.Out += int64(out)
}

func (s *Server) counted(keys int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Keys += keys
}

// unlucky draws whether a partial fault breaks the next key of c.
func (s *Server) unlucky(c call) bool {
	if c.unlucky == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.Float64() < c.unlucky
}

// overQuota is the answer to a call beyond the Quota.
func (s *Server) overQuota() reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.cfg.Quota <= 0 {
		return reply{}
	}
	s.recent = slices.DeleteFunc(s.recent, func(at time.Time) bool { return now.Sub(at) >= quotaWindow })
	if len(s.recent) >= s.cfg.Quota && !now.Before(s.banned) {
		s.banned = now.Add(quotaWindow)
	}
	if now.Before(s.banned) {
		out := failure(http.StatusTooManyRequests, 971, "Please wait and consider throttling your request speed")
		out.retryAfter = strconv.Itoa(int(s.banned.Sub(now)/time.Second) + 1)
		return out
	}
	s.recent = append(s.recent, now)
	return reply{}
}

func (s *Server) controls() {
	s.control = http.NewServeMux()
	show := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
	read := func(w http.ResponseWriter, r *http.Request, v any) bool {
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return false
		}
		return true
	}
	s.control.HandleFunc("POST /_/fault", func(w http.ResponseWriter, r *http.Request) {
		var f Fault
		if read(w, r, &f) {
			s.Fault(f)
			show(w, f)
		}
	})
	s.control.HandleFunc("POST /_/heal", func(w http.ResponseWriter, _ *http.Request) { s.Heal() })
	s.control.HandleFunc("POST /_/lag", func(w http.ResponseWriter, r *http.Request) {
		var ask struct {
			Lag Duration `json:"lag"`
		}
		if read(w, r, &ask) {
			s.Lag(time.Duration(ask.Lag))
		}
	})
	s.control.HandleFunc("GET /_/stats", func(w http.ResponseWriter, _ *http.Request) { show(w, s.Stats()) })
	s.control.HandleFunc("GET /_/dump", func(w http.ResponseWriter, _ *http.Request) { show(w, s.Dump()) })
}
