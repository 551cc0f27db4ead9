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

// Each node's user has eight tenths of what the limit allows, so nobody is refused until something
// breaks; and has it on this node alone, as one who is served elsewhere too owes nothing here. A flood
// is some hundreds of new keys a second.
const (
	takeEvery  = time.Second / 8
	floodEvery = 200 * time.Millisecond
	floodBatch = 100
)

// load is takes over HTTP, so that they are requests. A goroutine for each node, until close.
type load struct {
	flooded atomic.Pointer[string] // name of the node that strangers ask; nil: none
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

func (l *load) flood(node string) {
	if node == "" {
		l.flooded.Store(nil)
		return
	}
	l.flooded.Store(&node)
}

func (l *load) ask(ctx context.Context, m world.Machine) {
	take, flood := time.NewTicker(takeEvery), time.NewTicker(floodEvery)
	defer take.Stop()
	defer flood.Stop()
	for stranger := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-take.C:
			l.post(ctx, m, "/"+userLimit+"/user-of-"+m.Name, nil)
			l.post(ctx, m, "/"+tenantLimit+"/acme", nil)
		case <-flood.C:
			if at := l.flooded.Load(); at == nil || *at != m.Name {
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
