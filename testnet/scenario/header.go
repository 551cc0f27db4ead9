package scenario

import (
	"slices"
	"strings"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/world"
)

func (p *parser) regions(l *line) {
	p.unplaced(l)
	p.s.Regions = nil
	for ok := true; ok; ok = l.more() {
		w := l.next("the names of the regions, such as eu us ap")
		switch {
		case l.err != nil:
			return
		case !nameText.MatchString(w.text) || strings.Contains(w.text, "-"):
			l.fail(w, "%q; write a region's name: a-z, 0-9, beginning with a letter", w.text)
		case slices.Contains(p.s.Regions, w.text):
			l.fail(w, "region %q twice; name each once", w.text)
		case len(p.s.Regions) == maxRegions:
			l.fail(w, "too many regions; write at most %d", maxRegions)
		}
		p.s.Regions = append(p.s.Regions, w.text)
	}
}

// limit reads a definition; parts that are not said are as the config's defaults.
func (p *parser) limit(l *line) (d crdt.Definition) {
	w := l.next("the limit's name")
	if l.err == nil && !nameText.MatchString(w.text) {
		l.fail(w, "%q; write a limit's name: a-z, 0-9, '-' and '.', beginning with a letter", w.text)
	}
	d.Name, d.MaxBuckets = w.text, 1_000_000
	l.must("capacity")
	d.Capacity, d.Rate = p.allowance(l, "rate")
	for l.more() {
		switch l.choose("policy", "backup", "buckets") {
		case "policy":
			d.Policy, _ = crdt.ParsePolicy(l.choose("quorum", "share", "open"))
		case "backup":
			d.Backup = new(crdt.Backup)
			d.Backup.Capacity, d.Backup.Rate = p.allowance(l, "")
		case "buckets":
			d.MaxBuckets = uint32(l.count("how many buckets a node may hold", 1, 16_000_000))
		}
	}
	return d
}

// allowance reads a capacity and a rate, with a word between them.
func (p *parser) allowance(l *line, between string) (crdt.Milli, crdt.Rate) {
	capacity := crdt.Milli(l.count("the capacity in tokens", 1, int64(crdt.MaxCapacity/crdt.Token))) * crdt.Token
	if between != "" {
		l.must(between)
	}
	w := l.next("the refill rate, such as 100/s or 1000/h")
	rate, err := crdt.ParseRate(w.text)
	if l.err == nil && err != nil {
		l.fail(w, "%v", err)
	}
	return capacity, rate
}

// load reads a flow. What is not said: one key, by all nodes in turn, at random times, from
// beginning to end.
func (p *parser) load(l *line) {
	w := l.next("the name of a limit")
	if l.err == nil && p.definition(w.text) == nil {
		l.fail(w, "no limit %q above; write its limit line first", w.text)
	}
	load := Load{Flow: world.Flow{Limit: w.text, Keys: world.Keys{Name: "k"}}, To: longest}
	f := &load.Flow
	f.PerSecond = l.rate("how many takes", maxRate)
	for l.more() {
		switch l.choose("evenly", "burst", "on", "key", "keys", "zipf", "new", "cost", "in", "from") {
		case "evenly":
			f.Pattern.Even = true
		case "burst":
			f.Pattern.Burst = int(l.count("how many takes at once", 1, maxRate))
		case "on":
			f.Pattern.On = l.duration("how long it sends")
			l.must("off")
			f.Pattern.Off = l.duration("how long it is silent")
		case "key":
			f.Keys.Name = l.next("the name of the key").text
		case "keys":
			f.Keys.N = int(l.count("how many keys", 1, maxKeys))
		case "zipf":
			at := l.next("the exponent, such as 1.2")
			if f.Keys.Zipf = l.parseNumber(at, at.text, "an exponent over 1, such as 1.2"); l.err == nil && f.Keys.Zipf <= 1 {
				l.fail(at, "%q; write an exponent over 1, such as 1.2", at.text)
			}
		case "new":
			f.Keys.New = true
		case "cost":
			f.Cost = l.count("the cost of a take in tokens", 1, int64(crdt.MaxCapacity/crdt.Token))
		case "in":
			f.Nodes = p.place(l, nil)
		case "from":
			load.From = l.duration("since when")
			l.must("to")
			if load.To = l.duration("until when"); l.err == nil && load.To <= load.From {
				l.fail(l.words[l.read-1], "it ends before it begins; write a time after %v", load.From)
			}
		}
	}
	if f.Pattern.Off > 0 && f.Pattern.On <= 0 {
		l.fail(l.words[0], "a load that is never on; write on 1s off 1s, say")
	}
	p.s.Loads = append(p.s.Loads, load)
}

// Delays that nobody has named: those of the real world where the regions are known.
var usualDelays = []Delay{{"eu", "us", 40 * time.Millisecond}, {"us", "ap", 80 * time.Millisecond}, {"eu", "ap", 110 * time.Millisecond}}

const usualDelay = 80 * time.Millisecond

func (d *Delay) between(a, b string) bool { return d.A == a && d.B == b || d.A == b && d.B == a }

// allDelays gives each pair of regions one; where a file names one twice, the last line holds.
func (s *Scenario) allDelays() {
	said := append(slices.Clone(usualDelays), s.Delays...)
	s.Delays = nil
	for i, a := range s.Regions {
		for _, b := range s.Regions[i+1:] {
			d := Delay{a, b, usualDelay}
			for _, other := range said {
				if other.between(a, b) {
					d.OneWay = other.OneWay
				}
			}
			s.Delays = append(s.Delays, d)
		}
	}
}
