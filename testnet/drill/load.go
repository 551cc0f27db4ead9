package drill

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openclaw/edge/testnet/world"
)

// Tenants ask everywhere, for little of what they may have; they are many, so that each node has something
// to snapshot. A user asks one node, for eight tenths: the
// one whose refill is about to break, as its bucket alone says there that the limit is empty. A flood is
// some hundreds of new keys a second. So nobody is refused until something breaks.
const (
	takeEvery  = time.Second / 8
	tenants    = 30
	floodEvery = 200 * time.Millisecond
	floodBatch = 100
)

// load is takes over HTTP, so that they are requests. A goroutine for each node, until close.
type load struct {
	asked   atomic.Pointer[string] // name of the node that a user asks; nil: none
	flooded atomic.Pointer[string] // the same, of strangers
	client  *http.Client
	stop    context.CancelFunc
	done    sync.WaitGroup
}

func newLoad(nodes []world.Machine) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{client: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{}}, stop: stop}
	for _, m := range nodes {
		l.done.Go(func() { l.ask(ctx, m) })
	}
	return l
}

// user and flood begin at a node; "" ends them.
func (l *load) user(node string)  { l.asked.Store(&node) }
func (l *load) flood(node string) { l.flooded.Store(&node) }

func isAt(p *atomic.Pointer[string], m world.Machine) bool {
	at := p.Load()
	return at != nil && *at == m.Name
}

func (l *load) ask(ctx context.Context, m world.Machine) {
	take, flood := time.NewTicker(takeEvery), time.NewTicker(floodEvery)
	defer take.Stop()
	defer flood.Stop()
	for tenant, stranger := 0, 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-take.C:
			tenant++
			l.post(ctx, m, "/"+tenantLimit+"/tenant-"+strconv.Itoa(tenant%tenants), nil)
			if isAt(&l.asked, m) {
				l.post(ctx, m, "/"+userLimit+"/alice", nil)
			}
		case <-flood.C:
			if !isAt(&l.flooded, m) {
				continue
			}
			var body bytes.Buffer
			for i := range floodBatch {
				comma := ","
				if i == 0 {
					comma = `{"takes":[`
				}
				stranger++
				fmt.Fprintf(&body, `%s{"limit":%q,"key":%q,"cost":1}`, comma, floodLimit, "stranger-"+strconv.Itoa(stranger))
			}
			body.WriteString("]}")
			l.post(ctx, m, "", &body)
		}
	}
}

// post asks a node. That one which is down does not answer is part of the drill.
func (l *load) post(ctx context.Context, m world.Machine, path string, body io.Reader) {
	r, err := http.NewRequestWithContext(ctx, "POST", "http://"+m.HTTP+"/v1/take"+path, body)
	if err != nil {
		return
	}
	resp, err := l.client.Do(r)
	if err != nil {
		return
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

func (l *load) close() {
	l.stop()
	l.done.Wait()
	l.client.CloseIdleConnections()
}
