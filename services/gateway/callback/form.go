package callback

import (
	"mime"
	"net/http"
	"net/url"
	"slices"

	"github.com/go-json-experiment/json"
)

// once reads parameters in which no name occurs twice. A signature is checked over one value of a name; a second one, which others might read, would stand
// beside it unsigned.
func once(into map[string]string, query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return malformed("the parameters cannot be read")
	}
	for name, list := range values {
		if _, twice := into[name]; twice || len(list) > 1 {
			return malformed("a parameter occurs twice")
		}
		into[name] = list[0]
	}
	return nil
}

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
	mailType = "message/rfc822"
)

// is returns an error unless the body is of one of the types.
func (r *request) is(types ...string) (string, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(types, kind) {
		return "", malformed("the body is of another type than " + types[0])
	}
	return kind, nil
}

// params returns the parameters of the query and the body, in whichever of the three forms a provider may send them: the query alone (GET), a form, or an
// object of JSON with plain values.
func (r *request) params() (map[string]string, error) {
	all := map[string]string{}
	if err := once(all, r.URL.RawQuery); err != nil {
		return nil, err
	}
	if r.Method == http.MethodGet {
		return all, nil
	}
	kind, err := r.is(formType, jsonType)
	if err != nil {
		return nil, err
	}
	if kind == formType {
		return all, once(all, string(r.body))
	}
	var object map[string]string
	if err := json.Unmarshal(r.body, &object); err != nil { // which takes no name twice (RFC 8259, section 4)
		return nil, malformed("the body is no object of texts")
	}
	for name, value := range object {
		if _, twice := all[name]; twice {
			return nil, malformed("a parameter occurs twice")
		}
		all[name] = value
	}
	return all, nil
}
