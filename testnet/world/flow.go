package world

import "time"

// Flow is a stream of takes: who is asked, for which buckets, how often. Its own place in the
// stream is in it, so a Flow belongs to one World.
type Flow struct {
	Limit     string
	PerSecond float64  // takes offered in the mean, by all asked nodes together
	Cost      int64    // tokens a take; 0: one
	Nodes     []string // that are asked in turn; nil: all. One that does not run is left out
	Pattern   Pattern
	Keys      Keys

	state flowState
}

// Pattern is how takes arrive.
type Pattern struct {
	Even  bool          // evenly spaced; else at random (Poisson)
	Burst int           // so many at once, each time; 0: one
	On    time.Duration // sends for so long, then
	Off   time.Duration // is silent for so long; 0: never silent
}

// Keys is whose buckets are taken from.
type Keys struct {
	Name string  // of the key, or before the number of one
	N    int     // how many there are; 0: one, Name itself
	Zipf float64 // > 1: by zipf, the first the hottest; 0: evenly
	New  bool    // each take brings a key that nobody has seen: a flood
}

type flowState struct{}
