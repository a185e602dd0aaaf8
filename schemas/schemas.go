// Package schemas holds the contract of otpost in the forms that other programs read: JSON Schema for each message and AsyncAPI for the
// subjects that they travel on, OpenAPI for the same over HTTP. README.md tells what is where. pkg/event is the same contract in Go,
// and its tests hold the two together.
package schemas

import "embed"

// Events holds version 1 of the contract: a JSON Schema (2020-12) for each message and asyncapi.yaml, all under "events/v1". The schemas
// refer to each other by file name.
//
//go:embed events/v1/*.json events/v1/asyncapi.yaml
var Events embed.FS

// OpenAPI describes the JSON API (OpenAPI 3.1). It refers to the schemas of Events by their paths from its own folder. It is generated from the table of routes
// of services/gateway/api.
//
//go:embed openapi.yaml
var OpenAPI []byte
