package node

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/openclaw/edge/crdt"
)

// A strict reading of YAML into a struct: every mistake is reported, each with line, column
// and what to write instead.
//
// Why not the library's own decoder: it stops at the first mistake, words it in Go types,
// and forgets where a value stood, so that a later check ("no such limit") has no line to
// name. Its parser does the hard part. Aliases and tags are refused: no setting needs them.

type position struct{ line, column int }

func positionOf(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{1, 1}
	}
	return position{t.Position.Line, t.Position.Column}
}

// at is a scalar of the file, and where it stood.
type at[T any] struct {
	value T
	pos   position
	set   bool // the file has the field
	good  bool // and its value could be read: what is not has been reported, and is not checked further
}

func (a at[T]) or(otherwise T) T {
	if a.good {
		return a.value
	}
	return otherwise
}

// reader collects what is wrong with a file, up to maxProblems.
type reader struct {
	file     string
	problems []problemAt
	warnings []string
}

type problemAt struct {
	position
	text string
}

const maxProblems = 20

func (r *reader) fail(pos position, format string, args ...any) {
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, problemAt{pos, r.say(pos, format, args...)})
	}
}

// err is all problems, a line each, in the order of the file; nil if there are none.
func (r *reader) err() error {
	slices.SortStableFunc(r.problems, func(a, b problemAt) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	var all []error
	for _, p := range r.problems {
		all = append(all, errors.New(p.text))
	}
	return errors.Join(all...)
}

func (r *reader) warn(pos position, format string, args ...any) {
	r.warnings = append(r.warnings, r.say(pos, "warning: "+format, args...))
}

func (r *reader) say(pos position, format string, args ...any) string {
	return fmt.Sprintf("%s:%d:%d: %s", r.file, pos.line, pos.column, fmt.Sprintf(format, args...))
}

// read parses text into the struct that v points to. An empty document leaves it alone.
func (r *reader) read(text []byte, v any) {
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		var e yaml.Error
		if errors.As(err, &e) {
			r.fail(positionOf(e.GetToken()), "%s", e.GetMessage())
		} else {
			r.fail(position{1, 1}, "not YAML: %v", err)
		}
		return
	}
	for i, doc := range tree.Docs {
		switch {
		case doc.Body == nil:
		case i > 0:
			r.fail(positionOf(doc.Body.GetToken()), "a second document; write one, without ---")
		default:
			r.value(doc.Body, reflect.ValueOf(v).Elem(), "")
		}
	}
}

func (r *reader) value(n ast.Node, v reflect.Value, path string) {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		r.fail(positionOf(n.GetToken()), "%s: anchors, aliases and tags are not supported; write the value out", name(path))
		return
	}
	if s, ok := v.Addr().Interface().(scalar); ok {
		if err := s.read(n); err != nil {
			r.fail(positionOf(n.GetToken()), "%s: %v", name(path), err)
		}
		return
	}
	if _, null := n.(*ast.NullNode); null {
		return // a section whose lines are all commented out
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.value(n, v.Elem(), path)
	case reflect.Struct:
		r.fields(n, v, path)
	case reflect.Slice:
		seq, ok := n.(*ast.SequenceNode)
		if _, lone := v.Interface().(interface{ orOne() }); lone && !ok { // a list that may be written as its only item
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			r.value(n, v.Index(0), path)
			return
		}
		if !ok {
			r.fail(positionOf(n.GetToken()), "%s: not a list; write [a, b] or lines that begin with -", name(path))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
		for i, item := range seq.Values {
			r.value(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, pair := range r.pairs(n, path) {
			item := reflect.New(v.Type().Elem()).Elem()
			key := pair.Key.GetToken().Value
			r.value(pair.Value, item, join(path, key))
			v.SetMapIndex(reflect.ValueOf(key), item)
		}
	default:
		panic("config: no rule for " + v.Type().String())
	}
}

// fields reads a mapping into a struct whose fields are tagged with their names in the
// file. A struct that embeds a position is told where the mapping stands.
func (r *reader) fields(n ast.Node, v reflect.Value, path string) {
	known := map[string]int{}
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag.Get("yaml"); tag != "" {
			known[tag] = i
		}
	}
	pairs := r.pairs(n, path)
	if here, ok := v.Addr().Interface().(interface{ stands(position) }); ok {
		here.stands(positionOf(n.GetToken()))
		if len(pairs) > 0 {
			here.stands(positionOf(pairs[0].Key.GetToken()))
		}
	}
	for _, pair := range pairs {
		key := pair.Key.GetToken()
		i, ok := known[key.Value]
		if !ok {
			r.fail(positionOf(key), "%s: unknown field %q; write one of %s", name(path), key.Value,
				strings.Join(slices.Sorted(maps.Keys(known)), ", "))
			continue
		}
		r.value(pair.Value, v.Field(i), join(path, key.Value))
	}
}

func (r *reader) pairs(n ast.Node, path string) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	r.fail(positionOf(n.GetToken()), "%s: not a mapping; write {field: value} or lines of field: value", name(path))
	return nil
}

func name(path string) string {
	if path == "" {
		return "config"
	}
	return path
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// scalar is a leaf of the schema: at[T] for the types of parse.
type scalar interface{ read(n ast.Node) error }

func (a *at[T]) read(n ast.Node) error {
	err := a.parse(n)
	a.pos, a.set, a.good = positionOf(n.GetToken()), true, err == nil
	return err
}

// parse keeps a number's own text (a refill rate never becomes a float) and does not guess
// at types: 42 is no name, "yes" no truth value.
func (a *at[T]) parse(n ast.Node) (err error) {
	text, quoted, number := n.GetToken().Value, false, false
	switch n := n.(type) {
	case *ast.NullNode:
		return errors.New("empty; write a value, or leave the line out")
	case *ast.StringNode:
		text, quoted = n.Value, true
	case *ast.LiteralNode:
		text, quoted = n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode:
		number = true
	case *ast.BoolNode:
	default:
		return errors.New("not a plain value; write text, a number, true or false here")
	}
	switch v := any(&a.value).(type) {
	case *string:
		if *v = text; !quoted {
			err = fmt.Errorf("%s is not text; write it in quotes: %q", text, text)
		}
	case *bool:
		if *v = text == "true"; quoted || number || (text != "true" && text != "false") {
			err = fmt.Errorf("%q is neither true nor false", text)
		}
	case *uint64:
		if *v, err = strconv.ParseUint(text, 10, 64); err != nil || !number {
			err = fmt.Errorf("%q is not a whole number; write digits only, such as 100", text)
		}
	case *time.Duration:
		if *v, err = time.ParseDuration(text); err != nil {
			err = fmt.Errorf("%q is not a duration; write a number with its unit, such as 600ms, 3s or 10m", text)
		}
	case *crdt.Rate:
		if *v, err = crdt.ParseRate(text); err == nil && !quoted && !number {
			err = fmt.Errorf("%q is not a rate", text)
		}
	case *crdt.Policy:
		*v, err = crdt.ParsePolicy(text)
	default:
		panic(fmt.Sprintf("config: no rule for %T", a.value))
	}
	return err
}
