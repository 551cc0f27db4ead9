package page

import (
	"slices"
	"time"
)

// How much of the past a browser gets to see.
const (
	maxEntries = 200
	maxPoints  = 600 // at a publication each: two and a half minutes
)

// entry is a line of the event log.
type entry struct {
	Seq  uint64  `json:"seq"`
	At   float64 `json:"t"` // seconds since the testnet began
	Did  bool    `json:"did"`
	Tone string  `json:"tone"`
	Text string  `json:"text"`
}

// point is the refill rates at one moment: by limit and then by region, in order; null while
// no node of a region runs.
type point struct {
	Seq   uint64       `json:"seq"`
	At    float64      `json:"t"`
	Rates [][]*float64 `json:"rates"`
}

// past is a list that many read while its owner lets it grow: what was handed out does not
// change. It keeps most to twice most of the newest elements.
type past[T any] struct {
	most  int
	items []T
}

func (p *past[T]) add(item T) {
	if len(p.items) >= 2*p.most {
		p.items = slices.Clone(p.items[len(p.items)-p.most:])
	}
	p.items = append(p.items, item)
}

// newest is at most most elements, oldest first; nobody may change them.
func (p *past[T]) newest() []T {
	return slices.Clip(p.items[max(0, len(p.items)-p.most):])
}

// did notes what somebody did, saw what showed itself.
func (h *hub) did(text, tone string) { h.enter(true, text, tone) }
func (h *hub) saw(text, tone string) { h.enter(false, text, tone) }

// again is for how long the same thing seen again is not worth a line.
const again = 10 * time.Second

func (h *hub) enter(did bool, text, tone string) {
	now := h.w.Now()
	for _, e := range slices.Backward(h.log.newest()) {
		if e.At < (now - again).Seconds() {
			break
		}
		if !did && !e.Did && e.Text == text {
			return
		}
	}
	h.entries++
	h.log.add(entry{Seq: h.entries, At: now.Seconds(), Did: did, Tone: tone, Text: text})
}
