package otposttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeTables is the variable that makes Table write. It is no flag: go test would have to know it in every package that it is given.
const writeTables = "OTPOST_WRITE_TABLES"

// whatFollows says in short what otpost does about a code of a login, by the class of a delivery's error. The document says it at length.
var whatFollows = map[string]string{
	"ambiguous":     "the next provider; where there is none, the same once more",
	"transient":     "the next provider; where there is none, the same again until the code expires",
	"permanent":     "the next channel",
	"configuration": "the next provider; an operator has to act",
	"rejected":      "the next provider",
}

// WhatFollows says in short what follows an error of a class.
func WhatFollows(t testing.TB, class string) string {
	t.Helper()
	text, known := whatFollows[class]
	if !known {
		t.Fatalf("nothing is said of what follows an error of class %q", class)
	}
	return text
}

// Table holds a table of a document to the code that it tells of: what stands in it, between "<!-- table: name -->" and "<!-- end of table -->", is what
// the rows make. document is a path from the root of the repository. `make generate` writes the tables anew.
func Table(t testing.TB, document, name string, rows [][]string) {
	t.Helper()
	path := filepath.Join(root(t), filepath.FromSlash(document))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const end = "<!-- end of table -->"
	begin := "<!-- table: " + name + " -->\n"
	before, rest, found := strings.Cut(string(text), begin)
	is, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no table %q", document, name)
	}
	want := "\n" + markdown(rows) + "\n"
	if is == want {
		return
	}
	if os.Getenv(writeTables) == "" {
		t.Errorf("the table %q of %s is stale: run make generate", name, document)
		return
	}
	if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil { //nolint:gosec // a document, for everybody to read
		t.Fatal(err)
	}
}

// root is the folder of the repository: the nearest above the test with a go.mod.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod stands above the test")
		}
	}
}

// markdown writes a table; the first row is its head.
func markdown(rows [][]string) string {
	var b strings.Builder
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	for i, row := range rows {
		b.WriteByte('|')
		for _, text := range row {
			b.WriteString(" " + cell.Replace(text) + " |")
		}
		b.WriteByte('\n')
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return b.String()
}
