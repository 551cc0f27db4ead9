package page

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Limits of the event stream.
const (
	maxBrowsers = 32
	heartbeat   = 5 * time.Second // of silence; then a comment shows that the connection lives
	slowest     = 5 * time.Second // a browser that takes nothing for so long is let go
)

// frame is what a browser is to know at one moment. Nobody changes it.
type frame struct {
	hello  []byte // JSON: what stays the same
	state  []byte // JSON
	points []point
	log    []entry
}

var (
	errFull = errors.New("page: as many browsers look on as it serves (32): close one of them")
	errOver = errors.New("page: the testnet has stopped")
)

// stream hands frames to browsers. A browser has room for one: a newer frame replaces one that
// it has not taken yet.
type stream struct {
	mu       sync.Mutex // guards all below; nothing blocks under it
	browsers map[chan *frame]struct{}
	last     *frame
	closed   bool
}

func newStream() *stream { return &stream{browsers: map[chan *frame]struct{}{}} }

// join is where a browser gets its frames from, the newest one first; leave ends it. The
// channel is closed when the stream is.
func (s *stream) join() (frames <-chan *frame, leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, nil, errOver
	case len(s.browsers) >= maxBrowsers:
		return nil, nil, errFull
	}
	c := make(chan *frame, 1)
	if s.last != nil {
		c <- s.last
	}
	s.browsers[c] = struct{}{}
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.browsers, c)
	}, nil
}

func (s *stream) publish(f *frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = f
	for c := range s.browsers {
		select {
		case <-c:
		default:
		}
		c <- f // does not block: only publish sends, and it has just made room
	}
}

func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.browsers {
		close(c)
	}
	clear(s.browsers)
}

// events serves GET /events: "hello" once, then "points" and "log" with what the browser does
// not have yet, and "state". Who connects again starts with a new hello.
func (s *stream) events(w http.ResponseWriter, r *http.Request) {
	frames, leave, err := s.join()
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	b := browser{w: w}
	for err == nil {
		silence := time.NewTimer(heartbeat)
		select {
		case f, ok := <-frames:
			if !ok {
				return
			}
			out.SetWriteDeadline(time.Now().Add(slowest)) // without it a stuck browser keeps its place; nothing else depends on it
			err = b.tell(f)
		case <-silence.C:
			out.SetWriteDeadline(time.Now().Add(slowest))
			_, err = io.WriteString(w, ": still here\n\n")
		case <-r.Context().Done():
			return
		}
		silence.Stop()
		err = errors.Join(err, out.Flush())
	}
}

// browser is what one of them has been told.
type browser struct {
	w              io.Writer
	greeted        bool
	points, logged uint64
}

func (b *browser) tell(f *frame) error {
	if !b.greeted {
		b.greeted = true
		if err := event(b.w, "hello", f.hello); err != nil {
			return err
		}
	}
	if err := missed(b.w, "points", f.points, &b.points, func(p point) uint64 { return p.Seq }); err != nil {
		return err
	}
	if err := missed(b.w, "log", f.log, &b.logged, func(e entry) uint64 { return e.Seq }); err != nil {
		return err
	}
	return event(b.w, "state", f.state)
}

// missed sends what came after the last item told.
func missed[T any](w io.Writer, name string, items []T, last *uint64, seq func(T) uint64) error {
	first := len(items)
	for first > 0 && seq(items[first-1]) > *last {
		first--
	}
	if items = items[first:]; len(items) == 0 {
		return nil
	}
	*last = seq(items[len(items)-1])
	body, err := json.Marshal(items)
	if err != nil {
		return fmt.Errorf("page: %s: %w", name, err)
	}
	return event(w, name, body)
}

func event(w io.Writer, name string, body []byte) error {
	_, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, body)
	return err
}
