package program

import (
	"bytes"
	"sync"
)

// Output is what a program, or a node, says: read while it is written. The zero value is ready.
type Output struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

// Write never fails.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// String is all of it so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
