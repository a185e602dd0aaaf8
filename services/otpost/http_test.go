package main

import (
	"io"
	"net/http"
	"time"
)

// get fetches a page; status is 0 where nobody answers.
func get(url string) (status int, body string) {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get(url) //nolint:noctx // has a time-out
	if err != nil {
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}
