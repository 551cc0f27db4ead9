package page

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/openclaw/edge/testnet/world"
)

// command is the body of POST /do.
//
//	{"do":"region","name":"eu","mode":"both|in|out|flap|"}      cuts a region off; "" heals
//	{"do":"link","from":"eu","to":"us","mode":"both|there|back|flap|"}
//	{"do":"node","name":"eu-1","act":"crash|start|restart|pause|resume"}
//	{"do":"store","name":"kv|redis","fault":"429|500|hang|down|…|"}
//	{"do":"slow","on":true}  {"do":"flood","on":true}  {"do":"load","times":2}  {"do":"heal"}
type command struct {
	Do    string  `json:"do"`
	Name  string  `json:"name"`
	From  string  `json:"from"`
	To    string  `json:"to"`
	Mode  string  `json:"mode"`
	Act   string  `json:"act"`
	Fault string  `json:"fault"`
	On    bool    `json:"on"`
	Times float64 `json:"times"`
}

// mistake is a command that makes no sense: the one who sent it has to change it.
type mistake struct{ detail string }

func (m *mistake) Error() string { return m.detail }

func mistaken(format string, args ...any) error { return &mistake{fmt.Sprintf(format, args...)} }

// readCommand reads one command and nothing else.
func readCommand(r io.Reader) (c command, err error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, mistaken(`the body is not a command (%v): send one JSON object such as {"do":"region","name":"eu","mode":"both"}`, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return c, mistaken("there is something behind the command: send one at a time")
	}
	return c, nil
}

// Loads are how many times the load can be.
var loads = []float64{0, 0.5, 1, 2, 4}

// do carries a command out and says what was done.
func (h *hub) do(c command) (done string, err error) {
	switch c.Do {
	case "region":
		done, err = h.doRegion(c)
	case "link":
		done, err = h.doLink(c)
	case "node":
		done, err = h.doNode(c)
	case "store":
		done, err = h.doStore(c.Name, c.Fault)
	case "slow":
		done = "the WAN is slow and lossy: 3 times the delay, 10 % lost"
		if !c.On {
			done = "the WAN is fast again"
		}
		err = h.cutOrMend(func(f *faults) { f.slow = c.On })
	case "flood":
		h.load.flooding = c.On
		done = "a flood of new keys begins"
		if !c.On {
			done = "the flood of new keys ends"
		}
	case "load":
		if !slices.Contains(loads, c.Times) {
			return "", mistaken("load times %g: one of %v is possible", c.Times, loads)
		}
		h.load.times = c.Times
		done = fmt.Sprintf("load: %g times the normal", c.Times)
	case "heal":
		return h.healAll()
	default:
		return "", mistaken(`"do":%q is unknown: write region, link, node, store, slow, flood, load or heal`, c.Do)
	}
	if err != nil {
		return "", err
	}
	h.did(done, toneOf(c))
	return done, nil
}

// toneOf tells breaking from mending.
func toneOf(c command) string {
	if c.Mode == whole && c.Fault == "" && !c.On && c.Act != "crash" && c.Act != "restart" && c.Act != "pause" {
		return good
	}
	return bad
}

func (h *hub) doRegion(c command) (string, error) {
	if !slices.Contains(h.faults.names, c.Name) {
		return "", mistaken("no region %q: there are %s", c.Name, strings.Join(h.faults.names, ", "))
	}
	if !slices.Contains(regionModes, c.Mode) {
		return "", mistaken(`a region cannot be cut %q: write "both", "in", "out", "flap" or ""`, c.Mode)
	}
	says := map[string]string{
		whole: c.Name + " is connected again",
		both:  c.Name + " is cut off",
		in:    c.Name + " hears nobody: the ways in are cut",
		out:   "nobody hears " + c.Name + ": the ways out are cut",
		flap:  fmt.Sprintf("%s flaps: cut for %v, whole for %v", c.Name, flapDown, flapUp),
	}
	now := h.w.Now()
	return says[c.Mode], h.cutOrMend(func(f *faults) { f.regions[c.Name] = mode{c.Mode, now} })
}

func (h *hub) doLink(c command) (string, error) {
	p, turned, ok := h.faults.link(c.From, c.To)
	if !ok {
		return "", mistaken("no link from %q to %q: there are the regions %s", c.From, c.To, strings.Join(h.faults.names, ", "))
	}
	if !slices.Contains(linkModes, c.Mode) {
		return "", mistaken(`a link cannot be cut %q: write "both", "there", "back", "flap" or ""`, c.Mode)
	}
	how := c.Mode
	if turned && how == there {
		how = back
	} else if turned && how == back {
		how = there
	}
	name := p.from + "–" + p.to
	says := map[string]string{
		whole: "link " + name + " is whole again",
		both:  "link " + name + " is cut",
		there: fmt.Sprintf("link %s is cut one way: nothing from %s reaches %s", name, p.from, p.to),
		back:  fmt.Sprintf("link %s is cut one way: nothing from %s reaches %s", name, p.to, p.from),
		flap:  fmt.Sprintf("link %s flaps: cut for %v, whole for %v", name, flapDown, flapUp),
	}
	now := h.w.Now()
	return says[how], h.cutOrMend(func(f *faults) { f.links[p] = mode{how, now} })
}

func (h *hub) doNode(c command) (string, error) {
	if !slices.ContainsFunc(h.machines, func(m world.Machine) bool { return m.Name == c.Name }) {
		return "", mistaken("no node %q: GET / shows those there are", c.Name)
	}
	switch c.Act {
	case "crash":
		delete(h.starting, c.Name)
		return c.Name + " is killed", h.w.Crash(c.Name)
	case "start":
		h.starting[c.Name] = h.w.Now()
		return c.Name + " is started", nil
	case "restart":
		err := h.w.Stop(c.Name)
		if err == nil {
			h.starting[c.Name] = h.w.Now()
		}
		return c.Name + " is restarted: it stops cleanly and comes back", err
	case "pause":
		return c.Name + "'s refill daemon is paused", h.w.Pause(c.Name, true)
	case "resume":
		return c.Name + "'s refill daemon goes on", h.w.Pause(c.Name, false)
	}
	return "", mistaken(`"act":%q is unknown: write crash, start, restart, pause or resume`, c.Act)
}

var storeNames = map[string]string{"kv": "KV", "redis": "Redis"}

func (h *hub) doStore(name, fault string) (string, error) {
	shown, ok := storeNames[name]
	if !ok {
		return "", mistaken("no store %q: write kv or redis", name)
	}
	if err := h.w.Fault(name, fault); err != nil {
		return "", err
	}
	h.stores[name] = fault
	switch fault {
	case "":
		return shown + " is well again", nil
	case "429", "500":
		return shown + " answers " + fault, nil
	case "hang":
		return shown + " hangs: it takes calls and never answers", nil
	}
	return shown + " is " + fault, nil
}

// cutOrMend changes the network's switches. After what mends, the nodes are watched until they agree.
func (h *hub) cutOrMend(change func(*faults)) error {
	now := h.w.Now()
	mended, err := h.faults.try(h.w, now, change)
	if err == nil {
		h.healed, h.agreeing = now, mended
	}
	return err
}

// healAll turns every fault off and starts every node that is down. The load stays as it is,
// but for the flood. What cannot be mended does not keep the rest from it.
func (h *hub) healAll() (string, error) {
	errs := []error{h.cutOrMend((*faults).clear)}
	h.load.flooding = false
	for _, name := range []string{"kv", "redis"} {
		if h.stores[name] != "" {
			_, err := h.doStore(name, "")
			errs = append(errs, err)
		}
	}
	for _, m := range h.machines {
		switch s := h.w.State(m.Name); {
		case !s.Up:
			if _, waits := h.starting[m.Name]; !waits {
				h.starting[m.Name] = h.w.Now()
			}
		case s.Cluster.RefillPaused:
			errs = append(errs, h.w.Pause(m.Name, false))
		}
	}
	done := "everything is healed"
	h.did(done, good)
	return done, errors.Join(errs...)
}

// giveUpStarting is how long a node that was stopped may take to make room for its successor.
const giveUpStarting = 20 * time.Second

// start starts the nodes that wait for it. One that still winds up is tried again.
func (h *hub) start() {
	for name, since := range h.starting {
		err := h.w.Start(name)
		if err != nil && h.w.Now()-since < giveUpStarting {
			continue
		}
		delete(h.starting, name)
		if err != nil {
			h.saw(fmt.Sprintf("%s did not start: %v", name, err), bad)
		}
	}
}
