package postgres

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed queries/*.sql
var queryFiles embed.FS

// queries holds every statement by its name. A file holds the statements of one story, each after a line "-- name: <name>".
var queries = mustLoad(queryFiles, "queries")

// query returns a named statement. An unknown name is a fault of this package and ends the program at its first use, which every test meets.
func query(name string) string {
	q, ok := queries[name]
	if !ok {
		panic("postgres: no statement is named " + name)
	}
	return q
}

func mustLoad(files fs.FS, dir string) map[string]string {
	out := map[string]string{}
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		b, err := fs.ReadFile(files, dir+"/"+e.Name())
		if err != nil {
			panic(err)
		}
		for part := range strings.SplitSeq("\n"+string(b), "\n-- name: ") {
			name, body, ok := strings.Cut(part, "\n")
			if name = strings.TrimSpace(name); !ok || name == "" || strings.HasPrefix(name, "--") {
				continue // what stands before the first name
			}
			if _, twice := out[name]; twice {
				panic(fmt.Sprintf("postgres: the statement %s is named twice", name))
			}
			out[name] = strings.TrimSpace(body)
		}
	}
	return out
}
