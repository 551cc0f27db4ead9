package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"
)

// session is one run of the program.
type session struct {
	ctx  context.Context // ends with Ctrl-C
	api  *api
	out  io.Writer
	errs io.Writer
	json bool
	live bool // out is a terminal: lines may be written over
}

func newSession(ctx context.Context, f *flags, out, errs io.Writer) (*session, error) {
	a, err := newAPI(f)
	if err != nil {
		return nil, err
	}
	file, ok := out.(*os.File)
	s := &session{ctx: ctx, api: a, out: out, errs: errs, json: f.Output == "json"}
	s.live = ok && !s.json && term.IsTerminal(int(file.Fd()))
	return s, nil
}

// ask calls the node. With -o json its answer is shown as it is, errors too; else it is read into v.
func (s *session) ask(method, path string, v any) (status int, err error) {
	got, err := s.api.call(s.ctx, method, path)
	if err != nil {
		var p *problem
		if s.json && errors.As(err, &p) {
			s.raw(p.body)
		}
		return 0, err
	}
	if s.json {
		s.raw(got.body)
		return got.status, nil
	}
	if err := json.Unmarshal(got.body, v); err != nil {
		return 0, fmt.Errorf("%s answered what this openclawctl cannot read (%w); -o json shows it as it is", s.api.base, err)
	}
	return got.status, nil
}

func (s *session) raw(body []byte) {
	fmt.Fprintln(s.out, strings.TrimRight(string(body), "\n"))
}

// say writes for people: nothing with -o json.
func (s *session) say(format string, args ...any) {
	if !s.json {
		fmt.Fprintf(s.out, format+"\n", args...)
	}
}

// table writes rows under a header, in columns.
func table(w io.Writer, header string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(header, "|", "\t"))
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
}

// name is a key, a subject or another name that strangers choose: quoted if it could do something
// to the terminal, or be taken for two.
func name(key string) string {
	odd := func(r rune) bool {
		return !unicode.IsGraphic(r) || unicode.IsSpace(r) || r == '"' || r == unicode.ReplacementChar
	}
	if key == "" || strings.ContainsFunc(key, odd) {
		return strconv.Quote(key)
	}
	return key
}

// bucketName is a bucket in one word. Keys for which a node has no memory share the one without a
// name.
func bucketName(limit, key string) string {
	if key == "" {
		return limit + " (shared by keys beyond max_buckets)"
	}
	return limit + "/" + name(key)
}

func number(f float64) string { return strconv.FormatFloat(math.Round(f*1000)/1000, 'f', -1, 64) }

// rate is a refill rate, by the second, minute, hour or day: the first that makes it a short number
// of one or more.
func rate(perSecond float64) string {
	units := []struct {
		name    string
		seconds float64
	}{{"s", 1}, {"min", 60}, {"h", 3600}, {"day", 86400}}
	for _, u := range units {
		n := perSecond * u.seconds
		if tenths := math.Round(n * 10); n >= 1 && math.Abs(n*10-tenths) < 1e-6*tenths {
			return number(n) + "/" + u.name
		}
	}
	return strconv.FormatFloat(perSecond, 'g', 3, 64) + "/s"
}

// span is a time for people: 3 digits at most, but whole seconds from ten on.
func span(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	switch {
	case d.Abs() >= 10*time.Second:
		return d.Round(time.Second).String()
	case d.Abs() >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return number(math.Round(ms*10)/10) + "ms"
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.FormatInt(n, 10) + " " + what + "s"
}
