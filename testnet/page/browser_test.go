package page

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/openclaw/edge/testnet/local"
	"github.com/openclaw/edge/testnet/world"
)

var shot = flag.String("shot", "", "write a picture of the cut to this file")

// patience is for what takes no time but the browser's: other tests may keep the machine busy.
const patience = 15 * time.Second

// pose is how long a picture of a line takes.
const pose = 38 * time.Second

// lease is the nodes' default; what a cut does shows within it and two seconds.
const lease = 3 * time.Second

// A person with a browser, as acceptance 2 of the testnet has it: six real nodes and their
// stores, a real Chromium, and everything by mouse or keyboard.
func TestAPersonCutsAndHeals(t *testing.T) {
	chromium := findChromium(t)
	began := time.Now()
	url := serveLocal(t)
	b := open(t, chromium)
	b.do(chromedp.EmulateViewport(1280, 946), chromedp.Navigate(url))
	b.until(patience, "the page lives", `document.body.dataset.live === "yes"`)
	t.Logf("the page shows the testnet %v after its start began, the browser's own start included", time.Since(began).Round(time.Millisecond))
	b.until(patience, "load runs", `Number(document.querySelector(".sum span").textContent.match(/admitted ([\d,]+)/)?.[1].replace(",", "")) > 100`)
	b.until(patience, "eu refills in full", share("eu")+" >= 0.95")
	b.tidy()

	if *shot != "" {
		time.Sleep(pose) // for a line to fall from: no test waits for it
	}
	b.do(chromedp.Click(`#map [data-region="eu"]`))
	b.until(patience, "eu's refill falls below 20 %", share("eu")+" < 0.2")
	b.until(patience, "the log tells", says("#log", "eu is cut off")+" && "+says("#log", "refill in eu fell below 20 %: per-user"))
	fell := b.at("refill in eu fell below 20 %: per-user") - b.at("eu is cut off")
	if t.Logf("eu fell below 20 %% %.1f s after it was cut off", fell); fell > (lease + 2*time.Second).Seconds() {
		t.Errorf("that is more than the lease and two seconds")
	}
	b.until(patience, "the page says why", says("#why", "eu hears 2 of 6 members: no majority. Refill stopped under quorum (per-user)"))
	b.until(patience, "the others carry its part", share("us")+" >= 0.95 && "+share("ap")+" >= 0.95")
	b.tidy()
	if *shot != "" {
		time.Sleep(pose / 4)
		b.picture(*shot)
	}

	b.do(chromedp.Click(`#map [data-region="eu"]`))
	b.until(patience, "eu refills again", share("eu")+" >= 0.95")
	b.until(patience, "the log tells", says("#log", "refill in eu is back"))
	t.Logf("eu was back %.1f s after it was connected again", b.at("refill in eu is back: per-user")-b.at("eu is connected again"))
	b.until(patience, "the nodes agree", says("#log", "ms after the heal: every node knows"))
	b.until(patience, "all is well", says("#why", "Every node hears every other"))

	b.do(chromedp.Click(`button[aria-label="500, KV"]`))
	b.until(patience, "the fallback is active", says(`[data-store="redis"]`, "fallback active")+" && "+says("#log", "fallback began"))
	b.do(chromedp.Click(`button[aria-label="500, KV"]`))
	b.until(90*time.Second, "it ends", says(`[data-store="kv"]`, "healthy")+" && "+says("#log", "fallback ended"))

	b.byKeyboard()
	b.narrow()
	b.quiet()
}

// byKeyboard cuts eu off without a mouse, by its button and by its key.
func (b *person) byKeyboard() {
	b.do(chromedp.Navigate(b.url()))
	b.until(patience, "the page lives", `document.body.dataset.live === "yes"`)
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter)) // skip to the switches
	b.do(chromedp.KeyEvent(kb.Tab))
	b.until(patience, "the focus is on the first switch, and shows", `document.activeElement.getAttribute("aria-label") === "cut off, eu" && getComputedStyle(document.activeElement).outlineStyle === "solid"`)
	b.do(chromedp.KeyEvent(" "))
	b.until(patience, "eu's refill falls", share("eu")+` < 0.2 && document.activeElement.getAttribute("aria-pressed") === "true"`)
	b.do(chromedp.KeyEvent("h"))
	b.until(patience, "h heals", share("eu")+` >= 0.95 && document.activeElement.getAttribute("aria-pressed") === "false"`)
	b.do(chromedp.KeyEvent("2"))
	b.until(patience, "2 cuts us off", share("us")+" < 0.2")
	b.do(chromedp.KeyEvent("?"))
	b.until(patience, "? opens the list", `document.querySelector("#keys").open`)
	b.do(chromedp.KeyEvent(kb.Escape))
	b.until(patience, "Escape closes it", `!document.querySelector("#keys").open`)
	b.do(chromedp.KeyEvent("2"))
	b.until(patience, "2 heals us", share("us")+" >= 0.95")
}

// narrow looks at the page on a small phone, in the dark.
func (b *person) narrow() {
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}}); err != nil {
		b.t.Fatal(err)
	}
	b.do(chromedp.EmulateViewport(320, 640))
	b.until(patience, "the page is as wide as the screen", `document.documentElement.scrollWidth <= 320 && document.querySelector(".limit canvas").getBoundingClientRect().right <= 320`)
	b.until(patience, "nothing sticks out", `[...document.querySelectorAll("main *")].every((e) => e.getBoundingClientRect().right <= 320.5)`)
	b.until(patience, "it is dark", `getComputedStyle(document.body).backgroundColor === "rgb(14, 20, 27)"`)
	b.tidy()
}

// tidy: on the map nothing hides a button, and no card is wider than its place.
func (b *person) tidy() {
	b.t.Helper()
	b.until(patience, "nothing overlaps on the map", `(() => {
		const boxes = [...document.querySelectorAll("#map .region, #map .link")].map((e) => e.getBoundingClientRect());
		return boxes.length === 6 && boxes.every((a, i) => boxes.every((b, j) => i >= j || a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top));
	})()`)
	b.until(patience, "nothing is cut off in its card", `[...document.querySelectorAll(".card, .tile, .region, .link, .switch")].every((e) => e.scrollWidth <= e.clientWidth + 1)`)
}

// share is a region's refill of the quorum limit, as a share of the configured rate.
func share(region string) string {
	return fmt.Sprintf(`Number(document.querySelector('.tile[data-limit="per-user"][data-region=%q]').dataset.share)`, region)
}

func says(selector, text string) string {
	return fmt.Sprintf(`document.querySelector(%q).textContent.includes(%q)`, selector, text)
}

// person is a browser, and what it complained about.
type person struct {
	t   *testing.T
	ctx context.Context

	mu      sync.Mutex // guards console
	console []string
}

func (b *person) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// until waits until an expression is true.
func (b *person) until(within time.Duration, what, expression string) {
	b.t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(25 * time.Millisecond) {
		is, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](expression))
		if err == nil && is {
			return
		}
		if time.Now().After(end) {
			seen, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.body.innerText`))
			b.t.Fatalf("not so within %v: %s (%s; %v); the page says:\n%s", within, what, expression, err, seen)
		}
	}
}

// at is when the newest such line came into the log, in seconds of the testnet.
func (b *person) at(line string) float64 {
	b.t.Helper()
	at, err := chromedp.Run(b.ctx, chromedp.Evaluate[float64](fmt.Sprintf(`Number([...document.querySelectorAll("#log li")].find((e) => e.textContent.includes(%q)).dataset.t)`, line)))
	if err != nil {
		b.t.Fatal(err)
	}
	return at
}

func (b *person) url() string {
	url, err := chromedp.Run(b.ctx, chromedp.Location())
	if err != nil {
		b.t.Fatal(err)
	}
	return url
}

func (b *person) quiet() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.console) > 0 {
		b.t.Errorf("the console has:\n%s", strings.Join(b.console, "\n"))
	}
}

// findChromium skips the test where there is none.
func findChromium(t *testing.T) string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no chromium: apt-get install chromium")
	return ""
}

func open(t *testing.T, chromium string) *person {
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, leave := chromedp.NewContext(ctx)
	t.Cleanup(leave)
	b := &person{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil { // starts the browser, which lives as long as this context
		t.Fatal(err)
	}
	listening := make(chan struct{})
	t.Cleanup(func() { leave(); <-listening })
	go func() {
		defer close(listening)
		for m, err := range chromedp.Console(ctx) {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.console = append(b.console, fmt.Sprintf("%s: %s (%s:%d)", m.Type, m.Text, m.URL, m.Line))
			b.mu.Unlock()
		}
	}()
	return b
}

// serveLocal runs the page of a testnet of real nodes, under load, until the test ends.
func serveLocal(t *testing.T) (url string) {
	cfg := local.Config{Limits: local.Limits()[:3], Seed: 1, Endless: true} // one of each policy
	testnet, err := local.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	p := New(Config{World: testnet, Link: cfg.Between, Stores: testnet.Stores(), Listener: l, Flows: []*world.Flow{
		{Limit: "per-user", PerSecond: 90, Keys: world.Keys{Name: "user-", N: 4, Zipf: 1.5}},
		{Limit: "per-tenant", PerSecond: 260, Keys: world.Keys{Name: "tenant-", N: 4, Zipf: 1.3}},
		{Limit: "per-ip", PerSecond: 120, Keys: world.Keys{Name: "10.0.0.", N: 50, Zipf: 1.4}},
	}})
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := testnet.Close(); err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String() + "/"
}

// picture writes what the window shows, in few colours: it is for the README.
func (b *person) picture(file string) {
	raw, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	full, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		b.t.Fatal(err)
	}
	few := image.NewPaletted(full.Bounds(), palette(full))
	draw.Draw(few, few.Bounds(), full, full.Bounds().Min, draw.Src)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, few); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		b.t.Fatal(err)
	}
	b.t.Logf("%s: %d bytes", file, out.Len())
}

// palette is the colours that a picture has most of.
func palette(m image.Image) color.Palette {
	count := map[color.RGBA]int{}
	for y := m.Bounds().Min.Y; y < m.Bounds().Max.Y; y++ {
		for x := m.Bounds().Min.X; x < m.Bounds().Max.X; x++ {
			count[color.RGBAModel.Convert(m.At(x, y)).(color.RGBA)]++
		}
	}
	var p color.Palette
	for len(p) < 128 && len(count) > 0 {
		var most color.RGBA
		best := -1
		for c, n := range count {
			if n > best {
				most, best = c, n
			}
		}
		delete(count, most)
		p = append(p, most)
	}
	return p
}
