package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// yamlSettings are the settings of one YAML file, by flag name.
type yamlSettings struct {
	path   string
	values map[string]yamlValue
}

type yamlValue struct {
	text string // as it would be written on the command line
	line int
}

// value returns a setting and the line that it stands in.
func (y *yamlSettings) value(name string) (text string, line int, ok bool) {
	if y == nil {
		return "", 0, false
	}
	v, ok := y.values[name]
	return v.text, v.line, ok
}

// readYAML reads a file of settings. Its keys are names of flags; a map's keys are joined to its own with "-", so that
//
//	nats-url: nats://127.0.0.1:4222
//	sms: {timeout: 5s}
//
// sets --nats-url and --sms-timeout. A key that only another command knows (others) is passed over, so that one file may serve several
// commands; one that none knows is an error, as is one that is set twice. A key without a value (null) sets nothing.
func readYAML(path string, flags map[string]*kong.Flag, others map[string]bool) (*yamlSettings, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading settings: %w", err)
	}
	defer file.Close()
	y := &yamlSettings{path: path, values: map[string]yamlValue{}}
	decoder := yaml.NewDecoder(file)
	var doc yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF): // empty
		return y, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more than one YAML document", path)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return y, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: settings must be a map of names to values", path, root.Line)
	}
	if err := y.flatten("", root, flags, others); err != nil {
		return nil, err
	}
	return y, nil
}

// flatten takes the settings out of a map whose keys follow prefix.
func (y *yamlSettings) flatten(prefix string, node *yaml.Node, flags map[string]*kong.Flag, others map[string]bool) error {
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := prefix + key.Value
		if value.Kind == yaml.AliasNode || key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			return fmt.Errorf("%s:%d: setting %q: aliases and keys that are not plain text are not supported", y.path, key.Line, name)
		}
		flag := flags[name]
		if value.Kind == yaml.MappingNode && (flag == nil || !flag.IsMap()) {
			if err := y.flatten(name+"-", value, flags, others); err != nil {
				return err
			}
			continue
		}
		if flag == nil && others[name] {
			continue
		}
		if flag == nil {
			return fmt.Errorf("%s:%d: unknown setting %q%s", y.path, key.Line, name, suggestion(name, flags))
		}
		if earlier, ok := y.values[name]; ok {
			return fmt.Errorf("%s:%d: setting %q is set in line %d already", y.path, key.Line, name, earlier.line)
		}
		if value.Kind == yaml.ScalarNode && value.Tag == "!!null" {
			continue
		}
		text, err := flagText(value, flag)
		if err != nil {
			return fmt.Errorf("%s:%d: setting %q %w", y.path, value.Line, name, err)
		}
		y.values[name] = yamlValue{text: text, line: value.Line}
	}
	return nil
}

// flagText writes a node as it would be written on the command line, so that it is decoded as the flag's values are. Scalars stay as they
// are written: 007 stays 007, and +14155550100 does not become a number.
func flagText(node *yaml.Node, flag *kong.Flag) (string, error) {
	for i, n := range node.Content {
		if n.Kind != yaml.ScalarNode {
			return "", fmt.Errorf("may hold plain values only, item %d is none", i+1)
		}
	}
	switch node.Kind {
	case yaml.ScalarNode:
		return node.Value, nil
	case yaml.SequenceNode:
		if !flag.IsSlice() || flag.Tag.Sep == -1 {
			return "", errors.New("takes one value, not a list")
		}
		var items []string
		for _, n := range node.Content {
			items = append(items, n.Value)
		}
		return kong.JoinEscaped(items, flag.Tag.Sep), nil
	case yaml.MappingNode: // of a flag that is a map: flatten takes the others apart
		var pairs []string
		for i := 0; i+1 < len(node.Content); i += 2 {
			pairs = append(pairs, node.Content[i].Value+"="+node.Content[i+1].Value)
		}
		return kong.JoinEscaped(pairs, flag.Tag.MapSep), nil
	}
	return "", errors.New("is neither a value nor a list nor a map")
}

// suggestion names the flag that was probably meant, if it is spelled with underscores or by its environment variable.
func suggestion(name string, flags map[string]*kong.Flag) string {
	like := strings.TrimPrefix(strings.ReplaceAll(strings.ToLower(name), "_", "-"), "otpost-")
	if flags[like] != nil {
		return fmt.Sprintf(", did you mean %q?", like)
	}
	return ""
}
