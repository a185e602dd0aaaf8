package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// Settings come from five places. In order of precedence: the flag, the environment variable OTPOST_<FLAG>, the file that
// OTPOST_<FLAG>_FILE names, the YAML file of --config, the default. Every flag has all of them; a field of the command line says nothing of it.
//
// Tags beside kong's own: `secret:""` marks a value that is shown neither in help nor in errors; `env:"-"` keeps a flag to the command
// line and the YAML file.

const (
	envPrefix     = "OTPOST_"
	envFileSuffix = "_FILE"
	configFlag    = "config" // the flag that names the YAML file, if the command line has one
)

// Exit codes of parse.
const (
	exitOK    = 0
	exitUsage = 2 // the command line, the environment or the configuration file is wrong
)

// parse fills cli, a pointer to kong's grammar, from args and the environment. It returns the parsed command, or nil and the exit code if
// there is nothing to run: 0 after --help or --version, 2 after an error, which it has written to stderr in one line.
//
// An environment variable that is empty counts as unset.
func parse(cli any, args []string, env func(string) (string, bool), stdout, stderr io.Writer, options ...kong.Option) (ctx *kong.Context, exitCode int) {
	s := &sources{env: env}
	options = append([]kong.Option{
		kong.Name("otpost"),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exited(code)) }), // help and version end parsing here
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: helpWidth}),
		kong.Help(printHelp),
		kong.ValueFormatter(describe),
		kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(decodeDuration)),
		kong.PostBuild(prepare),
		kong.WithBeforeResolve(s.open),
		kong.WithBeforeApply(s.checkMissing),
		kong.Resolvers(s),
	}, options...)
	parser, err := kong.New(cli, options...)
	if err != nil {
		panic(fmt.Sprintf("command line: %v", err)) // a fault in the grammar, which no input can cause or mend
	}
	defer func() {
		if r := recover(); r != nil {
			code, ok := r.(exited)
			if !ok {
				panic(r)
			}
			ctx, exitCode = nil, int(code)
		}
	}()
	ctx, err = parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", commandName(err), s.message(err))
		return nil, exitUsage
	}
	return ctx, exitOK
}

// helpWidth is the most characters of a line of help.
const helpWidth = 120

// printHelp is kong's own help with its first line wrapped, which names every required flag.
func printHelp(o kong.HelpOptions, ctx *kong.Context) error {
	out := ctx.Stdout
	var text bytes.Buffer
	ctx.Stdout = &text
	err := kong.DefaultHelpPrinter(o, ctx)
	ctx.Stdout = out
	if err != nil {
		return err
	}
	usage, rest, _ := strings.Cut(text.String(), "\n")
	const indent = "         "
	var b strings.Builder
	width := 0
	for i, word := range strings.Fields(usage) {
		switch n := utf8.RuneCountInString(word); {
		case i == 0:
			width = n
		case width+1+n > helpWidth:
			b.WriteString("\n" + indent)
			width = len(indent) + n
		default:
			b.WriteByte(' ')
			width += 1 + n
		}
		b.WriteString(word)
	}
	_, err = fmt.Fprintf(out, "%s\n%s", b.String(), rest)
	return err
}

// exited carries an exit code out of the middle of parsing.
type exited int

// sources resolves the settings that are not on the command line.
type sources struct {
	env  func(string) (string, bool)
	yaml *yamlSettings

	opened, checked bool
	flags           []*kong.Flag // those of the chosen command, its ancestors' included
	names           map[string]*kong.Flag
	others          map[string]bool // flags of other commands: one file may serve several
	current         *kong.Flag      // what is being resolved, for the text of an error
	origin          string          // where its value came from
}

var _ kong.Resolver = (*sources)(nil)

// open finds the chosen command's flags and reads the YAML file. Kong calls it once for each element of the path.
func (s *sources) open(ctx *kong.Context) error {
	if s.opened {
		return nil
	}
	s.opened, s.flags, s.names, s.others = true, ctx.Flags(), map[string]*kong.Flag{}, map[string]bool{}
	for _, command := range ctx.Model.Leaves(false) {
		for _, f := range command.Flags {
			s.others[f.Name] = true
		}
	}
	var config *kong.Flag
	for _, f := range s.flags {
		switch f.Name {
		case "help", "version": // orders, not settings
		case configFlag:
			config = f
		default:
			s.names[f.Name] = f
		}
	}
	for _, f := range s.flags {
		if _, value := s.lookup(envName(f)); value != "" && s.fileAllowed(f) {
			if _, file := s.lookup(envName(f) + envFileSuffix); file != "" {
				return fmt.Errorf("both %s and %s are set", envName(f), envName(f)+envFileSuffix)
			}
		}
	}
	if config == nil {
		return nil
	}
	path, _ := ctx.FlagValue(config).(string)
	if !config.Set || path == "" {
		if _, named := s.lookup(envName(config)); named != "" {
			path = kong.ExpandPath(named)
		}
	}
	if path == "" {
		return nil
	}
	var err error
	s.yaml, err = readYAML(path, s.names, s.others)
	return err
}

// Validate is part of kong.Resolver. What there is to validate was validated when the file was read.
func (s *sources) Validate(*kong.Application) error { return nil }

// Resolve returns the value of a flag that is not on the command line, or nil to leave it to its default.
func (s *sources) Resolve(_ *kong.Context, _ *kong.Path, f *kong.Flag) (any, error) {
	s.current, s.origin = f, ""
	if f.Name == configFlag {
		if name, value := s.lookup(envName(f)); value != "" {
			s.origin = name
			return value, nil
		}
		return nil, nil
	}
	if s.names[f.Name] == nil {
		return nil, nil
	}
	if name, value := s.lookup(envName(f)); value != "" {
		s.origin = name
		return value, nil
	}
	if s.fileAllowed(f) {
		if name, path := s.lookup(envName(f) + envFileSuffix); path != "" {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			s.origin = name + "=" + path
			return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
		}
	}
	if value, line, ok := s.yaml.value(f.Name); ok {
		s.origin = fmt.Sprintf("%s:%d", s.yaml.path, line)
		return value, nil
	}
	return nil, nil
}

// lookup returns the variable's name and value; an empty name is that of a flag without one.
func (s *sources) lookup(name string) (string, string) {
	if !strings.HasPrefix(name, envPrefix) {
		return "", ""
	}
	value, _ := s.env(name)
	return name, value
}

// fileAllowed reports whether OTPOST_<FLAG>_FILE serves the flag: not if that is the variable of a flag <flag>-file.
func (s *sources) fileAllowed(f *kong.Flag) bool {
	return f.Name != configFlag && s.names[f.Name] != nil && s.names[f.Name+"-file"] == nil
}

// checkMissing finds required settings that no source gave. Kong would find them too, but name the flag only.
func (s *sources) checkMissing(ctx *kong.Context) error {
	if s.checked {
		return nil
	}
	s.checked, s.current = true, nil
	node := ctx.Selected()
	if node == nil {
		node = ctx.Model.Node
	}
	if !node.Leaf() {
		return nil // no command yet: that is the error to report
	}
	var missing []string
	for _, f := range s.flags {
		if f.Required && !f.Set && len(f.Xor) == 0 && len(f.And) == 0 {
			name := "--" + f.Name
			if e := envName(f); e != "" {
				name += " (or " + e + ")"
			}
			missing = append(missing, name)
		}
	}
	switch len(missing) {
	case 0:
		return nil
	case 1:
		return errors.New("missing setting " + missing[0])
	}
	return errors.New("missing settings " + strings.Join(missing, ", "))
}

// message returns the text of an error: one line, with the source of a wrong value, and without the value of a secret.
func (s *sources) message(err error) string {
	text := err.Error()
	var pe *kong.ParseError
	if errors.As(err, &pe) && pe.Context != nil && !isFileError(err) {
		name, _, _ := strings.Cut(strings.TrimPrefix(text, "--"), " ") // kong's texts begin with the flag that they are about
		for _, f := range pe.Context.Flags() {
			if f.Name == strings.TrimSuffix(name, ":") && isSecret(f.Value) {
				text = "--" + f.Name + ": invalid value (not shown: it is secret)"
			}
		}
	}
	if s.current != nil && s.origin != "" {
		text += " (from " + s.origin + ")"
	}
	return strings.Join(strings.Fields(text), " ")
}

// isFileError tells the failure to read OTPOST_X_FILE, whose text shows a path and no secret.
func isFileError(err error) bool {
	var pe *os.PathError
	return errors.As(err, &pe)
}

// commandName returns how the chosen command is called, as far as parsing came.
func commandName(err error) string {
	name := "otpost"
	var pe *kong.ParseError
	if errors.As(err, &pe) && pe.Context != nil {
		for _, p := range pe.Context.Path {
			if p.Command != nil {
				name += " " + p.Command.Name
			}
		}
	}
	return name
}

// envName returns the environment variable of a flag, or "" if it has none.
func envName(f *kong.Flag) string {
	if f.Name == "help" || f.Name == "version" || f.Tag.Get("env") == "-" {
		return ""
	}
	return envPrefix + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(f.Name))
}

// prepare readies the grammar: kong itself is kept from reading the environment, which sources does, and place-holders become the
// type of the value, because the default is told beside it.
func prepare(k *kong.Kong) error {
	return kong.Visit(k.Model, func(node kong.Visitable, next kong.Next) error {
		if f, ok := node.(*kong.Flag); ok {
			f.Envs, f.Tag.Envs = nil, nil
			if f.PlaceHolder == "" {
				f.PlaceHolder = placeHolder(f)
			}
		}
		return next(nil)
	})
}

func placeHolder(f *kong.Flag) string {
	t := f.Target.Type()
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch {
	case f.IsMap():
		return "KEY=VALUE"
	case t == reflect.TypeFor[time.Duration]():
		return "DURATION"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Float64:
		return "NUMBER"
	case strings.HasSuffix(f.Name, "url"):
		return "URL"
	case f.Tag.Type == "path" || f.Tag.Type == "existingfile":
		return "FILE"
	case f.Tag.Type == "existingdir":
		return "DIR"
	}
	return "TEXT"
}

// describe is the help of a flag or argument: what it is, what it may be, its default and its environment variable.
func describe(v *kong.Value) string {
	if v.Flag == nil {
		return v.Help
	}
	var notes []string
	if v.Enum != "" {
		choices := slices.DeleteFunc(v.EnumSlice(), func(s string) bool { return s == "" }) // not to give it is none to read of
		notes = append(notes, "one of "+strings.Join(choices, ", "))
	}
	switch {
	case v.Required:
		notes = append(notes, "required")
	case v.HasDefault && v.Default != "" && !v.IsBool():
		notes = append(notes, "default "+shownDefault(v))
	case v.IsBool() && v.HasDefault && v.Default == "true":
		notes = append(notes, "default true")
	}
	if name := envName(v.Flag); name != "" {
		if isSecret(v) {
			name += " or " + name + envFileSuffix
		}
		notes = append(notes, name)
	}
	if len(notes) == 0 {
		return v.Help
	}
	return strings.TrimSpace(strings.TrimSuffix(v.Help, ".") + " (" + strings.Join(notes, "; ") + ").")
}

// shownDefault returns the default as it may be shown: not that of a secret, and not the password of a URL.
func shownDefault(v *kong.Value) string {
	if isSecret(v) {
		return "hidden"
	}
	if u, err := url.Parse(v.Default); err == nil && u.User != nil {
		return u.Redacted()
	}
	if v.Target.Kind() == reflect.String && strings.ContainsAny(v.Default, " ;()") {
		return strconv.Quote(v.Default)
	}
	return v.Default
}

// isSecret reports whether the value is marked as secret, or named like one by somebody who forgot to mark it. One that can only be true or false is none,
// whatever its name.
func isSecret(v *kong.Value) bool {
	if v.Tag.Has("secret") {
		return true
	}
	if v.IsBool() {
		return false
	}
	words := strings.FieldsFunc(v.Name, func(r rune) bool { return r == '-' || r == '.' })
	if n := len(words); n > 0 && (words[n-1] == "file" || words[n-1] == "dir") {
		return false // names where a secret is
	}
	return slices.ContainsFunc(words, func(w string) bool {
		return w == "password" || w == "secret" || w == "token" || w == "passphrase"
	})
}

// decodeDuration takes durations with a unit only. Kong's own takes a bare number as nanoseconds, which nobody means.
func decodeDuration(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := ctx.Scan.PopValueInto("duration", &text); err != nil {
		return err
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	target.SetInt(int64(d))
	return nil
}
