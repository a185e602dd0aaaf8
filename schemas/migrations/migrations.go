// Package migrations embeds the SQL that makes and changes otpost's database, in goose's form, so that the binary needs no files beside it.
package migrations

import "embed"

// FS holds the migrations at its root.
//
//go:embed *.sql
var FS embed.FS
