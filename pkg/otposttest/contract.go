package otposttest

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/otpost/otpost/schemas"
)

// compiler knows the schemas of all messages, each by its id, which it returns by the name of the message.
func compiler() (c *jsonschema.Compiler, ids map[string]string) {
	const dir = "events/v1"
	c = jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	files, err := fs.Glob(schemas.Events, dir+"/*.json")
	if err != nil {
		panic(err)
	}
	ids = map[string]string{}
	for _, f := range files {
		body, err := schemas.Events.ReadFile(f)
		if err != nil {
			panic(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err != nil {
			panic(fmt.Sprintf("%s: %v", f, err))
		}
		id, _ := doc.(map[string]any)["$id"].(string)
		if err := c.AddResource(id, doc); err != nil {
			panic(fmt.Sprintf("%s: %v", f, err))
		}
		ids[strings.TrimSuffix(path.Base(f), ".json")] = id
	}
	return c, ids
}

// contract compiles the schemas of all messages once, by the name of the message.
var contract = sync.OnceValue(func() map[string]*jsonschema.Schema {
	c, ids := compiler()
	out := map[string]*jsonschema.Schema{}
	for name, id := range ids {
		if name != "common" {
			out[name] = c.MustCompile(id)
		}
	}
	return out
})

// Contract returns what is wrong with a message by its schema in schemas/events/v1, nil for nothing. A message without a schema is wrong.
func Contract(name string, body []byte) error {
	s, ok := contract()[name]
	if !ok {
		return fmt.Errorf("there is no schema %s", name)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// ByContract holds an event to its schema.
func ByContract(e Event) error {
	if err := Contract(string(e.Name), e.Raw); err != nil {
		return fmt.Errorf("it breaks its schema: %w", err)
	}
	return nil
}
