package otposttest

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/otpost/otpost/schemas"
)

// An Operation is what schemas/openapi.yaml says of one way to ask.
type Operation struct {
	ID        string
	Request   string                       // reference to the schema of the body; empty for none
	Examples  map[string]any               // of the request
	Responses map[string]OperationResponse // by status
}

// OperationResponse is one answer of an operation.
type OperationResponse struct {
	Schemas  map[string]string // references to the schema of the body, by media type; an empty one where the file holds the schema itself
	Examples map[string]any
	Headers  map[string]bool // that may be there, and whether they must
}

// Operations reads schemas/openapi.yaml: every operation by method and path ("POST /v1/login"). Its panics are faults of the file.
var Operations = sync.OnceValue(func() map[string]Operation {
	var doc map[string]any
	if err := yaml.Unmarshal(schemas.OpenAPI, &doc); err != nil {
		panic(fmt.Sprintf("openapi.yaml: %v", err))
	}
	out := map[string]Operation{}
	for path, item := range object(doc["paths"]) {
		for method, v := range object(item) {
			op := inDocument(doc, v)
			o := Operation{ID: fmt.Sprint(op["operationId"]), Responses: map[string]OperationResponse{}}
			if body, ok := op["requestBody"]; ok {
				media := object(object(inDocument(doc, body)["content"])["application/json"])
				o.Request, o.Examples = fmt.Sprint(object(media["schema"])["$ref"]), values(media)
			}
			for status, v := range object(op["responses"]) {
				response := inDocument(doc, v)
				r := OperationResponse{Schemas: map[string]string{}, Headers: map[string]bool{}}
				for kind, v := range object(response["content"]) {
					to, _ := object(object(v)["schema"])["$ref"].(string)
					r.Schemas[kind], r.Examples = to, values(object(v))
				}
				for name, v := range object(response["headers"]) {
					r.Headers[name] = inDocument(doc, v)["required"] == true
				}
				o.Responses[status] = r
			}
			out[strings.ToUpper(method)+" "+path] = o
		}
	}
	return out
})

func object(v any) map[string]any { m, _ := v.(map[string]any); return m }

func values(media map[string]any) map[string]any {
	out := map[string]any{}
	for name, e := range object(media["examples"]) {
		out[name] = object(e)["value"]
	}
	return out
}

// inDocument follows a reference within the document.
func inDocument(doc map[string]any, v any) map[string]any {
	to, ok := object(v)["$ref"].(string)
	if !ok {
		return object(v)
	}
	var at any = doc
	for step := range strings.SplitSeq(strings.TrimPrefix(to, "#/"), "/") {
		at = object(at)[step]
	}
	if at == nil {
		panic("openapi.yaml refers to " + to + ", which is not there")
	}
	return object(at)
}

// referred are the schemas that openapi.yaml refers to, compiled once.
var referred struct {
	sync.Mutex
	c    *jsonschema.Compiler
	ids  map[string]string
	done map[string]*jsonschema.Schema
}

// Referred returns what is wrong with a value by the schema that openapi.yaml refers to ("./events/v1/rpc.login.request.json").
func Referred(ref string, v any) error {
	file, fragment, _ := strings.Cut(ref, "#")
	name := strings.TrimSuffix(strings.TrimPrefix(file, "./events/v1/"), ".json")
	referred.Lock()
	defer referred.Unlock()
	if referred.c == nil {
		referred.c, referred.ids = compiler()
		referred.done = map[string]*jsonschema.Schema{}
	}
	id, ok := referred.ids[name]
	if !ok {
		return fmt.Errorf("there is no schema %s", ref)
	}
	s, ok := referred.done[ref]
	if !ok {
		var err error
		if s, err = referred.c.Compile(id + "#" + fragment); err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
		referred.done[ref] = s
	}
	return s.Validate(v)
}

// ByOpenAPI holds a request and its answer to schemas/openapi.yaml: that there is such an operation, that it may be answered so, the body's type and form, the
// headers. Of a request that was refused the body is not looked at.
func ByOpenAPI(method, path string, request []byte, status int, header http.Header, answer []byte) error {
	o, ok := Operations()[method+" "+path]
	if !ok {
		return fmt.Errorf("there is no operation %s %s", method, path)
	}
	if status < 300 && o.Request != "" {
		if err := judge(o.Request, request); err != nil {
			return fmt.Errorf("the request of %s: %w", o.ID, err)
		}
	}
	r, ok := o.Responses[strconv.Itoa(status)]
	if !ok {
		return fmt.Errorf("%s is not to be answered %d", o.ID, status)
	}
	ref, ok := r.Schemas[header.Get("Content-Type")]
	if !ok {
		return fmt.Errorf("an answer %d of %s is not to be %q", status, o.ID, header.Get("Content-Type"))
	}
	for name, must := range r.Headers {
		if must && header.Get(name) == "" {
			return fmt.Errorf("an answer %d of %s lacks %s", status, o.ID, name)
		}
	}
	for _, name := range []string{"Retry-After", "Idempotency-Replayed", "WWW-Authenticate"} {
		if _, known := r.Headers[name]; header.Get(name) != "" && !known {
			return fmt.Errorf("an answer %d of %s has %s, of which openapi.yaml knows nothing", status, o.ID, name)
		}
	}
	if ref == "" {
		return nil
	}
	if err := judge(ref, answer); err != nil {
		return fmt.Errorf("an answer %d of %s: %w", status, o.ID, err)
	}
	return nil
}

func judge(ref string, body []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return Referred(ref, v)
}
