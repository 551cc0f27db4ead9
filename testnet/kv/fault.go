package kv

import (
	"cmp"
	"net"
	"net/http"
	"syscall"
	"time"
)

// Kind is what a Fault does to a call.
type Kind string

const (
	Failure Kind = "error"   // an envelope of Status (500) and Code (10001); RetryAfter if set
	HTML    Kind = "html"    // a page of Status (502)
	False   Kind = "false"   // 200 with "success": false and Code
	Hang    Kind = "hang"    // no answer until the client goes; nothing is applied
	Reset   Kind = "reset"   // the connection breaks before anything is applied
	Lost    Kind = "lost"    // applied; then the connection breaks
	Late    Kind = "late"    // no answer; applied after Delay
	Partial Kind = "partial" // Share of the keys of a bulk are not applied, and named
	Down    Kind = "down"    // as if nothing listened
	Slow    Kind = "slow"    // as without a fault, after Delay
)

// Fault is a way to fail, for some calls and some time.
type Fault struct {
	Op   string `json:"op"` // put, get, delete, list, value; "": every call
	Kind Kind   `json:"kind"`

	Calls int      `json:"calls"` // it ends after so many; 0: no limit
	For   Duration `json:"for"`   // it ends so long after it was switched on; 0: no limit
	Rate  float64  `json:"rate"`  // 0–1, share of the calls that it meets; 0 is 1

	Status     int      `json:"status"`
	Code       int      `json:"code"`
	RetryAfter string   `json:"retry_after"` // the header, as it stands
	Delay      Duration `json:"delay"`
	Share      float64  `json:"share"` // 0–1, of Partial; 0 is 0.5
}

// Duration is a time.Duration that JSON writes as "1m30s".
type Duration time.Duration

func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

func (f Fault) share() float64 { return cmp.Or(f.Share, 0.5) }

// reply is what the fault answers in the operation's place; status 0: the operation answers.
func (f Fault) reply() reply {
	var out reply
	switch f.Kind {
	case Failure:
		out = failure(cmp.Or(f.Status, http.StatusInternalServerError), cmp.Or(f.Code, 10001), "a fault was asked for")
	case HTML:
		out = page(cmp.Or(f.Status, http.StatusBadGateway))
	case False:
		out = failure(http.StatusOK, cmp.Or(f.Code, 10001), "a fault was asked for")
	}
	out.retryAfter = f.RetryAfter
	return out
}

// active is a Fault that was switched on.
type active struct {
	Fault
	until time.Time // zero: no end
	left  int       // calls; 0 and Calls > 0: over
}

// Fault switches f on. Of several that fit a call the first one is met, but for those that the
// draw of Rate passes over.
func (s *Server) Fault(f Fault) {
	a := &active{Fault: f, left: f.Calls}
	if f.For > 0 {
		a.until = time.Now().Add(time.Duration(f.For))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, a)
}

// Heal switches all faults off. Calls that hang go on hanging, as they would.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// pick is the fault that a call of op meets, the zero Fault if none. The caller holds s.mu.
func (s *Server) pick(op string, now time.Time) Fault {
	for i := 0; i < len(s.faults); i++ {
		f := s.faults[i]
		if !f.until.IsZero() && !now.Before(f.until) || f.Calls > 0 && f.left == 0 {
			s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
			i--
			continue
		}
		if f.Op != "" && f.Op != op || f.Rate > 0 && s.rng.Float64() >= f.Rate {
			continue
		}
		f.left--
		return f.Fault
	}
	return Fault{}
}

// drop breaks the connection off, the way f says.
func (s *Server) drop(w http.ResponseWriter, f Fault) {
	err := &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	if f.Kind == Down {
		err = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	if d, ok := w.(interface{ drop(error) }); ok {
		d.drop(err)
		return
	}
	conn, _, hijack := http.NewResponseController(w).Hijack()
	if hijack != nil {
		panic(http.ErrAbortHandler) // HTTP/2: the stream is reset instead
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0) // a reset, not an end
	}
	conn.Close()
}

// Named are the faults that testnets call by a word.
func Named(name string) (f Fault, known bool) {
	f, known = map[string]Fault{
		"down": {Kind: Down},
		"429":  {Kind: Failure, Status: http.StatusTooManyRequests, Code: 971, RetryAfter: "5"},
		"500":  {Kind: Failure, Status: http.StatusInternalServerError},
		"slow": {Kind: Slow, Delay: Duration(1500 * time.Millisecond)}, // within what its clients wait
		"hang": {Kind: Hang},
	}[name]
	return f, known
}
