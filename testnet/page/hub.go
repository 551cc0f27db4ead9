package page

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/world"
)

// How often the hub turns, and how often it tells the browsers.
const (
	turn    = 100 * time.Millisecond
	publish = 250 * time.Millisecond
)

// hub owns the World. Everything in it is run's alone, but for orders and stream.
type hub struct {
	cfg      Config
	w        world.World
	machines []world.Machine
	orders   chan order
	over     chan struct{} // closed when run has returned
	stream   *stream

	faults    *faults
	load      *load
	stores    map[string]string        // fault by store
	starting  map[string]time.Duration // nodes to start, since when
	worst     map[string]float64       // tokens over the limit, by limit: as far as any look saw
	watch     *watch
	healed    time.Duration // when the heal was that the nodes have not agreed after yet
	agreeing  bool
	log       past[entry]
	points    past[point]
	entries   uint64
	seq       uint64 // of publications
	published time.Duration
	buckets   []bucketState // as of the last look at them
	lookAgain time.Duration // not before
}

// order is a command and where its answer goes; the answer fits the channel.
type order struct {
	command
	answer chan<- answer
}

type answer struct {
	done string
	err  error
}

func newHub(cfg Config) *hub {
	if o := cfg.World.Observed(); o.Recent == nil {
		o.Endless()
	}
	return &hub{
		cfg: cfg, w: cfg.World, machines: cfg.World.Machines(),
		orders: make(chan order), over: make(chan struct{}), stream: newStream(),
		faults: newFaults(cfg.World.Machines(), cfg.Link), load: newLoad(cfg.Flows, cfg.Flood),
		stores: map[string]string{}, starting: map[string]time.Duration{},
		worst: map[string]float64{}, watch: newWatch(),
		log: past[entry]{most: maxEntries}, points: past[point]{most: maxPoints},
	}
}

// run turns until ctx ends. No order is left without an answer: who waits for one sees over.
func (h *hub) run(ctx context.Context) {
	defer close(h.over)
	defer h.stream.close()
	h.saw(fmt.Sprintf("%d nodes in %d regions, under load", len(h.machines), len(h.faults.names)), note)
	for ctx.Err() == nil {
		before := h.w.Now()
		if err := h.w.Run(turn, h.load.now()); err != nil {
			h.saw(fmt.Sprintf("the testnet failed: %v", err), bad)
			if h.w.Now()-before < turn/2 { // else a World that fails at once would be asked without end
				wait(ctx, turn)
			}
		}
		h.obey()
		h.start()
		if _, err := h.faults.apply(h.w, h.w.Now()); err != nil {
			h.saw(fmt.Sprintf("a switch failed: %v", err), bad)
		}
		h.converged()
		if now := h.w.Now(); now-h.published >= publish || h.seq == 0 {
			h.published = now
			h.publish()
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// obey carries out what has been ordered meanwhile.
func (h *hub) obey() {
	for {
		select {
		case o := <-h.orders:
			done, err := h.do(o.command)
			o.answer <- answer{done, err}
		default:
			return
		}
	}
}

// converged says when every node knows all that had been taken anywhere before the last heal.
func (h *hub) converged() {
	if !h.agreeing {
		return
	}
	var after time.Duration
	for _, e := range slices.Backward(h.w.Observed().Events) {
		if e.At < h.healed {
			break
		}
		if e.Kind == judge.Heal {
			if e.Agreed == judge.Never {
				return
			}
			after = max(after, e.Agreed)
		}
	}
	h.agreeing = false
	h.saw(fmt.Sprintf("converged %d ms after the heal: every node knows all that was taken before it; %s", after.Milliseconds(), h.overdrafts()), good)
}

// overdrafts says how far over the limits the cluster ever was.
func (h *hub) overdrafts() string {
	var each []string
	for _, d := range h.w.Limits() {
		each = append(each, fmt.Sprintf("%s by %.0f tokens", d.Name, h.worst[d.Name]))
	}
	return "over the limit at worst so far: " + strings.Join(each, ", ")
}
