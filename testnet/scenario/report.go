package scenario

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"strings"

	"github.com/openclaw/edge/testnet/page"
)

// Report is what is told of a play: NAME.json is exactly this.
type Report struct {
	Name    string        `json:"name"`
	About   string        `json:"about"`
	Passed  bool          `json:"passed"`
	Testnet string        `json:"testnet"` // what it was played on
	Lasted  float64       `json:"lasted"`  // seconds under load
	Late    float64       `json:"late"`    // seconds that the player was late at worst; 0 in virtual time
	Regions []string      `json:"regions"`
	Nodes   int           `json:"nodes"` // in all
	Figures Figures       `json:"figures"`
	Limits  []LimitReport `json:"limits"`
	Checks  []CheckReport `json:"checks"`
	Events  []EventReport `json:"events"`
	Series  Series        `json:"series"`
}

// busy is how late the player may be before its figures are in doubt: nodes have dozens of
// goroutines, it has one.
const busy = 0.2

// Warning says why the figures may be those of the machine, not of the cluster; "": they are not.
func (r *Report) Warning() string {
	if r.Late < busy {
		return ""
	}
	return fmt.Sprintf("This machine was too busy: the player itself was %.1f s late. Play it again when nothing else runs, or with --fast.", r.Late)
}

// LimitReport is a limit's figures over the run, in tokens.
type LimitReport struct {
	Limit     string  `json:"limit"`
	Offered   int64   `json:"offered"`
	Admitted  int64   `json:"admitted"`
	Ideal     int64   `json:"ideal"`
	Ratio     float64 `json:"admitted_to_ideal"`
	Refused   int64   `json:"refused"` // of what one bucket a key would have admitted
	Backup    int64   `json:"backup"`
	Overdraft float64 `json:"overdraft"`

	Windows []Window `json:"worst_windows"`
}

// Window is the worst that came in any so many seconds: tokens admitted more, and fewer, than one
// bucket a key would have admitted in them.
type Window struct {
	Seconds float64 `json:"seconds"`
	Above   int64   `json:"above"`
	Below   int64   `json:"below"`
}

// CheckReport is a Check.
type CheckReport struct {
	Text     string `json:"text"`
	Line     int    `json:"line"`
	OK       bool   `json:"ok"`
	Measured string `json:"measured"`
}

// EventReport is a step, at a second of the run.
type EventReport struct {
	At   float64 `json:"at"`
	Text string  `json:"text"`
}

// Report sums a play up. On says what it was played on, in words.
func (r *Result) Report(on string) *Report {
	s := r.Scenario
	out := &Report{Name: s.Name, About: strings.TrimSpace(s.About), Passed: r.OK(), Testnet: on, Lasted: s.Lasts.Seconds(), Late: r.Late.Seconds(),
		Regions: s.Regions, Nodes: len(s.Names()), Figures: r.figures(), Series: r.series()}
	for _, d := range s.Limits {
		t := r.Total(d.Name)
		l := LimitReport{Limit: d.Name, Offered: t.Offered, Admitted: t.Admitted, Ideal: t.Ideal, Ratio: t.Ratio(), Refused: t.Refused, Backup: t.Backup, Overdraft: t.Overdraft}
		for _, w := range t.Windows {
			l.Windows = append(l.Windows, Window{w.Length.Seconds(), w.Above, w.Below})
		}
		out.Limits = append(out.Limits, l)
	}
	for _, c := range r.Checks {
		out.Checks = append(out.Checks, CheckReport(c))
	}
	for _, e := range r.Events {
		out.Events = append(out.Events, EventReport{e.At.Seconds(), e.Text})
	}
	return out
}

//go:embed report.html
var reportText string

var reportPage = template.Must(template.New("report").Funcs(template.FuncMap{
	"tokens":  func(n int64) string { return thousands(n) },
	"percent": func(x float64) string { return fmt.Sprintf("%.2f %%", 100*x) },
	"ratio":   func(x float64) string { return fmt.Sprintf("%.4f", x) },
	"at":      func(s float64) string { return fmt.Sprintf("%.2f s", s) },
}).Parse(reportText))

// Write makes NAME.json and NAME.html in a directory. The page needs no network: its plots and
// what draws them are inside.
func (r *Report) Write(dir string) (html string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("report: %w", err)
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", fmt.Errorf("report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, r.Name+".json"), data, 0o644); err != nil {
		return "", fmt.Errorf("report: %w", err)
	}
	var b strings.Builder
	if err := r.html(&b); err != nil {
		return "", fmt.Errorf("report: %w", err)
	}
	html = filepath.Join(dir, r.Name+".html")
	return html, os.WriteFile(html, []byte(b.String()), 0o644)
}

func (r *Report) html(b *strings.Builder) error {
	script, err := page.Assets.ReadFile("assets/vendor/uPlot.iife.min.js")
	if err != nil {
		return err
	}
	style, err := page.Assets.ReadFile("assets/vendor/uPlot.min.css")
	if err != nil {
		return err
	}
	return reportPage.Execute(b, struct {
		*Report
		Script template.JS
		Style  template.CSS
	}{r, template.JS(script), template.CSS(style)}) //nolint:gosec // ours
}

// thousands writes 12345 as 12,345.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
