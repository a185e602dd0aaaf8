package event

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/otpost/otpost/schemas"
)

// A node is a part of a schema file, with the file for the references inside.
type node struct {
	file  string
	value map[string]any
}

func schemaFile(t testing.TB, file string) node {
	t.Helper()
	b, err := schemas.Events.ReadFile(schemaDir + "/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return node{file, v}
}

// follow resolves a reference, where n is one.
func (n node) follow(t testing.TB) node {
	t.Helper()
	ref, ok := n.value["$ref"].(string)
	if !ok {
		return n
	}
	file, pointer, _ := strings.Cut(ref, "#")
	if file == "" {
		file = n.file
	}
	at := schemaFile(t, file)
	for _, step := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		next, ok := at.value[step].(map[string]any)
		if !ok {
			t.Fatalf("%s refers to %s, which is not there", n.file, ref)
		}
		at.value = next
	}
	return at.follow(t)
}

func (n node) property(t testing.TB, name string) (node, bool) {
	t.Helper()
	props, _ := n.value["properties"].(map[string]any)
	p, ok := props[name].(map[string]any)
	return node{n.file, p}, ok
}

func (n node) required() map[string]bool {
	out := map[string]bool{}
	list, _ := n.value["required"].([]any)
	for _, r := range list {
		out[r.(string)] = true
	}
	return out
}

// A member is one JSON member of a Go struct.
type member struct {
	name     string
	typ      reflect.Type
	optional bool // left out when zero or empty
}

// members returns what t is in JSON, embedded structs included.
func members(t reflect.Type) []member {
	var out []member
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case options == "embed":
		case name == "" && f.Anonymous:
			out = append(out, members(f.Type)...)
		default:
			out = append(out, member{name, f.Type, strings.Contains(options, "omitzero") || strings.Contains(options, "omitempty")})
		}
	}
	return out
}

// matches proves that a Go type and a schema know the same members, in kind and, unless only names are wanted, in which may be missing. What k says of
// members that are never or always there holds besides.
func matches(t *testing.T, at string, typ reflect.Type, n node, k messageKind, needRequired bool) {
	t.Helper()
	n = n.follow(t)
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	kind := jsonKind(typ)
	if kind == "" {
		return // left open on purpose: the data of an event, compared by itself
	}
	if !allowsKind(t, n, kind) {
		t.Errorf("%s is %s in Go; the schema says otherwise: %v", at, kind, n.value)
		return
	}
	switch kind {
	case "array":
		items, ok := n.value["items"].(map[string]any)
		if !ok {
			t.Errorf("%s: the schema does not say what is in the array", at)
			return
		}
		matches(t, at+"[]", typ.Elem(), node{n.file, items}, messageKind{}, needRequired)
	case "object":
		props, _ := n.value["properties"].(map[string]any)
		required := n.required()
		known := map[string]bool{}
		for _, m := range members(typ) {
			p, ok := n.property(t, m.name)
			if slices.Contains(k.never, m.name) {
				if !m.optional {
					t.Errorf("%s.%s is never there, and %s cannot leave it out", at, m.name, typ)
				}
				continue
			}
			known[m.name] = true
			if !ok {
				t.Errorf("%s.%s is in %s and not in the schema", at, m.name, typ)
				continue
			}
			if slices.Contains(k.always, m.name) {
				if !required[m.name] || !m.optional {
					t.Errorf("%s.%s is always there: required in the schema is %v, omitzero in Go is %v", at, m.name, required[m.name], m.optional)
				}
			} else if needRequired && required[m.name] == m.optional {
				t.Errorf("%s.%s: omitzero in Go is %v, required in the schema is %v", at, m.name, m.optional, required[m.name])
			}
			if p.value["description"] == nil && p.follow(t).value["description"] == nil {
				t.Errorf("%s.%s has no description", at, m.name)
			}
			matches(t, at+"."+m.name, m.typ, p, messageKind{}, needRequired)
		}
		for name := range props {
			if !known[name] {
				t.Errorf("%s.%s is in the schema and not in %s", at, name, typ)
			}
		}
	}
}

func jsonKind(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Time](), t == reflect.TypeFor[uuid.UUID](), t == reflect.TypeFor[[]byte]():
		return "string"
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Int, reflect.Uint32:
		return "integer"
	case reflect.Bool:
		return "boolean"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 { // raw JSON
			return ""
		}
		return "array"
	case reflect.Struct:
		return "object"
	default:
		return ""
	}
}

// allowsKind reports whether a schema is about values of one JSON kind.
func allowsKind(t testing.TB, n node, kind string) bool {
	n = n.follow(t)
	of := func(v any) bool {
		switch v.(type) {
		case string:
			return kind == "string"
		case float64:
			return kind == "integer"
		case bool:
			return kind == "boolean"
		}
		return false
	}
	if typ, ok := n.value["type"].(string); ok {
		return typ == kind
	}
	if c, ok := n.value["const"]; ok {
		return of(c)
	}
	if list, ok := n.value["enum"].([]any); ok {
		for _, v := range list {
			if !of(v) {
				return false
			}
		}
		return len(list) > 0
	}
	if list, ok := n.value["anyOf"].([]any); ok {
		for _, v := range list {
			if !allowsKind(t, node{n.file, v.(map[string]any)}, kind) {
				return false
			}
		}
		return len(list) > 0
	}
	return false
}

func TestTypesAndSchemasHaveTheSameMembers(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.schema, func(t *testing.T) {
			n := schemaFile(t, k.schema+".json")
			data, isEvent := n.property(t, "data")
			switch {
			case k.enveloped():
				matches(t, "envelope", reflect.TypeFor[envelope](), n, messageKind{}, false) // decoded only, so it has no omitzero
			case isEvent:
				// What is about no challenge has no subject.
				if _, ok := n.property(t, "subject"); ok {
					matches(t, "envelope", reflect.TypeFor[cloudEvent](), n, messageKind{}, true)
				}
			default:
				data = n
			}
			if data.follow(t).value["additionalProperties"] != false {
				t.Error("the schema lets unknown members pass")
			}
			matches(t, k.schema, k.goType, data, k, true)
		})
	}
}
