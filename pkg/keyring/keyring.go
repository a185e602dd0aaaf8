// Package keyring holds otpost's keys: it makes and rotates them, and lends a process those of its role and no others.
//
// Keys live as Tink keysets in files, one directory a role: DIR/ROLE/KEYSET.json. A keyset that two roles need stands in both
// directories, so that a role's directory is all that its machine or container is given. The files are in clear text, mode 0600 in
// directories of mode 0700; keeping them on encrypted or memory-backed storage is the operator's part. Losing the keyset "secret" loses
// every authenticator app's enrolment, and losing a "destination" keyset loses the addresses sealed with it: back them up.
//
// # Keysets
//
//   - code (HMAC-SHA256): derives the digits of a challenge's code.
//   - ceremony (HMAC-SHA256): derives the codes that confirm a new factor, prove a recovery and cancel one. Whoever compares these needs no
//     key of "code", and so cannot derive the code of a login.
//   - destination-sms, destination-email, destination-letter (AES-256-GCM): seal the addresses that codes go to.
//   - secret (AES-256-GCM): seals the secrets of factors, and backup codes.
//   - receipt (AES-256-GCM): seals the name of a delivery into the token that a provider's receipt brings back.
//   - index (HMAC-SHA256): keyed digests, by which equal things are found without being stored; challenge ids among them.
//
// # Rotation
//
// Rotation has two phases, so that no worker meets a key that it does not know. [Add] puts a new key into every copy of the keyset; then
// the workers that hold it are restarted; [Promote] makes the new key the one that is used, and the workers are restarted again. Values
// sealed and codes derived with an older key stay good until [Remove] takes that key away.
//
// A digest of "index" does not name its key, so promoting a new index key changes all later digests: limits counted by digest begin anew,
// and a login event that is redelivered across the change is not recognised. Promote it only while no login is under way. Backup codes are
// looked up by the digests of every key ([Ring.Digests]): one made under an older key is found until [Remove] takes that key away.
package keyring

import (
	"errors"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
)

// Errors that callers tell apart. All others mean that a key file is missing, malformed or exposed, and name it.
var (
	ErrExists     = errors.New("keys exist already")                                                   // Init would have overwritten keys
	ErrNotHeld    = errors.New("role does not hold the keyset")                                        // the ring is of a role that must not have this keyset
	ErrUnknownKey = errors.New("key is not in the keyset")                                             // a key id older than the oldest or newer than this process
	ErrOpen       = errors.New("sealed value is altered, bound to something else, or its key is gone") // Open cannot tell which
	ErrNoNewKey   = errors.New("the newest key is already in use: add one first")                      // Promote has nothing to do
	ErrInUse      = errors.New("the key is in use: promote another first")                             // Remove of the primary key
)

// A Keyset names a rotating set of keys that serves one purpose.
type Keyset string

// The keysets of otpost.
const (
	Code              Keyset = "code"
	Ceremony          Keyset = "ceremony"
	DestinationSMS    Keyset = "destination-sms"
	DestinationEmail  Keyset = "destination-email"
	DestinationLetter Keyset = "destination-letter"
	Secret            Keyset = "secret"
	Index             Keyset = "index"
	Page              Keyset = "page"
	Receipt           Keyset = "receipt"
)

// Keysets lists every keyset.
func Keysets() []Keyset {
	return []Keyset{Code, Ceremony, DestinationSMS, DestinationEmail, DestinationLetter, Secret, Index, Page, Receipt}
}

// template returns the kind of key that the keyset is made of, or nil if there is no such keyset.
func (k Keyset) template() *tinkpb.KeyTemplate {
	switch k {
	case Code, Ceremony, Index:
		return prf.HMACSHA256PRFKeyTemplate()
	case DestinationSMS, DestinationEmail, DestinationLetter, Secret, Page, Receipt:
		return aead.AES256GCMKeyTemplate()
	}
	return nil
}

// A Role is the part that a process plays; it decides which keysets the process gets.
type Role string

// The roles that hold keys. Operator is the role of the command-line tools.
const (
	SMS          Role = "sms"
	Email        Role = "email"
	Letter       Role = "letter"
	Verification Role = "verification"
	Enrolment    Role = "enrolment"
	Gateway      Role = "gateway"
	Operator     Role = "operator"
	Challenge    Role = "challenge"
)

// A grant is what a role's directory holds.
type grant struct {
	role  Role
	keys  []Keyset // the keysets themselves
	infos []Keyset // only the ids of the keys: KEYSET.info.json
}

// grants is the one table of who holds what. The challenge worker records on each challenge which code key it is for, so it knows the
// ids of the code keys; it cannot derive a code. The enrolment worker holds no code key at all: of a login's code it could say nothing.
// The gateway holds what it seals its own rows with and nothing of the workers'.
//
// The order matters to rotation: the first role that holds a keyset has its leading copy, and roles that only know the ids come last.
var grants = []grant{
	{role: SMS, keys: []Keyset{Code, Ceremony, DestinationSMS, Receipt}},
	{role: Email, keys: []Keyset{Code, Ceremony, DestinationEmail, Receipt}},
	{role: Letter, keys: []Keyset{Ceremony, DestinationLetter}},
	{role: Verification, keys: []Keyset{Code, Secret, Index}},
	{role: Enrolment, keys: []Keyset{Ceremony, Secret, Index, DestinationSMS, DestinationEmail, DestinationLetter}},
	{role: Gateway, keys: []Keyset{Page}},
	{role: Operator, keys: []Keyset{Secret, Index, DestinationSMS, DestinationEmail, DestinationLetter, Page}},
	{role: Challenge, keys: []Keyset{Index, DestinationSMS, DestinationEmail, Receipt}, infos: []Keyset{Code}},
}

// Roles lists every role that holds keys.
func Roles() []Role {
	roles := make([]Role, len(grants))
	for i, g := range grants {
		roles[i] = g.role
	}
	return roles
}

func grantOf(role Role) (grant, bool) {
	i := slices.IndexFunc(grants, func(g grant) bool { return g.role == role })
	if i < 0 {
		return grant{}, false
	}
	return grants[i], true
}

// files returns the names of the files that the role's directory must hold, and no other key files.
func (g grant) files() []string {
	var names []string
	for _, k := range g.keys {
		names = append(names, keysetFile(k))
	}
	for _, k := range g.infos {
		names = append(names, infoFile(k))
	}
	return names
}

func keysetFile(k Keyset) string { return string(k) + ".json" }
func infoFile(k Keyset) string   { return string(k) + ".info.json" }

// holders returns the roles that hold the keyset, the leading copy's first.
func holders(k Keyset) []Role {
	var roles []Role
	for _, g := range grants {
		if slices.Contains(g.keys, k) {
			roles = append(roles, g.role)
		}
	}
	return roles
}

// informed returns the roles that hold only the ids of the keyset's keys.
func informed(k Keyset) []Role {
	var roles []Role
	for _, g := range grants {
		if slices.Contains(g.infos, k) {
			roles = append(roles, g.role)
		}
	}
	return roles
}
