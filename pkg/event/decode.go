package event

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/otpost/otpost/pkg/otp"
)

// MaxBody is the most bytes that an event or a request from an app may have.
const MaxBody = 64 << 10

var (
	errNull = errors.New("must not be null")

	// noNull refuses null, which the schemas know nowhere and which would otherwise pass as "not given".
	noNull = json.WithUnmarshalers(json.UnmarshalFromFunc(func(d *jsontext.Decoder, _ any) error {
		if d.PeekKind() == 'n' {
			return errNull
		}
		return errors.ErrUnsupported
	}))

	strict  = json.JoinOptions(json.RejectUnknownMembers(true), noNull)
	lenient = json.JoinOptions(json.RejectUnknownMembers(false), noNull)
)

// decode reads outside input strictly into v. The problem names the field, with prefix before it.
func decode(data []byte, v any, prefix string, opts json.Options) *otp.Problem {
	if len(data) > MaxBody {
		return otp.InvalidField("body", fmt.Sprintf("must have at most %d bytes, not %d", MaxBody, len(data)))
	}
	if len(data) == 0 {
		return otp.InvalidField("body", "must not be empty")
	}
	err := json.Unmarshal(data, v, opts)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		field := fieldName(prefix, e.JSONPointer)
		switch {
		case errors.Is(err, json.ErrUnknownName):
			return otp.InvalidField(field, "is not a known field")
		case errors.Is(err, errNull):
			return otp.InvalidField(field, "must not be null")
		default:
			return otp.InvalidField(field, "must be "+kindOf(e))
		}
	}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		field := fieldName(prefix, e.JSONPointer)
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return otp.InvalidField(field, "is given twice")
		}
		return otp.InvalidField("body", fmt.Sprintf("must be valid JSON (error near byte %d)", e.ByteOffset))
	}
	return otp.InvalidField("body", "must be valid JSON")
}

// maxFieldName is the length, in bytes, past which a field's name is cut: nesting is an attacker's to choose.
const maxFieldName = 64

// fieldName renders a JSON pointer as people write fields, quoting and cutting whatever an attacker put there.
func fieldName(prefix string, p jsontext.Pointer) string {
	var b strings.Builder
	b.WriteString(prefix)
	for tok := range p.Tokens() {
		if b.Len() > maxFieldName {
			b.WriteString("...")
			break
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		if len(tok) > 40 {
			tok = tok[:40] + "…"
		}
		if q := strconv.QuoteToASCII(tok); len(q) == len(tok)+2 {
			b.WriteString(tok)
		} else {
			b.WriteString(q)
		}
	}
	if b.Len() == 0 {
		return "body"
	}
	return b.String()
}

func kindOf(e *json.SemanticError) string {
	if e.GoType == nil {
		return "of another form"
	}
	switch e.GoType.Kind().String() {
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "int", "int32", "int64", "uint32", "uint64":
		return "a whole number"
	case "struct", "map":
		if e.GoType.String() == "time.Time" {
			return "a time as RFC 3339 writes it"
		}
		return "an object"
	case "slice":
		return "an array"
	default:
		return "of another form"
	}
}

// encode writes one of our own values, whose types cannot fail to encode.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("event: a type of the contract does not encode: %v", err))
	}
	return b
}
