package keyring

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Load reads the keysets of the role from dir/role. It is all or nothing: a file that is missing, malformed, of the wrong kind, open to
// other users of the machine, or that the role must not have is an error that names the file.
//
// A process loads its ring once; after a rotation it is restarted.
func Load(dir string, role Role) (*Ring, error) {
	g, ok := grantOf(role)
	if !ok {
		return nil, fmt.Errorf("keyring: no role %q holds keys", role)
	}
	home := filepath.Join(dir, string(role))
	if err := refuseForeign(home, g); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	ring := &Ring{role: role, aeads: map[Keyset]tink.AEAD{}}
	for _, k := range g.keys {
		if err := ring.load(filepath.Join(home, keysetFile(k)), k); err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
	}
	for _, k := range g.infos {
		path := filepath.Join(home, infoFile(k))
		info, err := readInfo(path, k)
		if err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		if k == Code {
			ring.codeKeyID, ring.knowsCodeKey = info.GetPrimaryKeyId(), true
		}
	}
	return ring, nil
}

// load builds the primitives of one keyset, so that nothing is parsed or allocated for keys once the process runs.
func (r *Ring) load(path string, k Keyset) error {
	handle, err := readKeyset(path, k)
	if err != nil {
		return err
	}
	switch k {
	case Code:
		r.code, r.codeKeyID, err = prfs(handle)
		r.knowsCodeKey = true
	case Ceremony:
		r.ceremony, r.ceremonyKeyID, err = prfs(handle)
	case Index:
		var all map[uint32]PRF
		var primary uint32
		if all, primary, err = prfs(handle); err == nil {
			r.index = inOrder(handle.KeysetInfo(), all, primary)
		}
	default:
		r.aeads[k], err = aead.New(handle)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// prfs returns the keyset's enabled functions by key id, each tried once so that a key of a shorter output is found now and not later.
func prfs(handle *keyset.Handle) (all map[uint32]PRF, primary uint32, err error) {
	set, err := prf.NewPRFSet(handle)
	if err != nil {
		return nil, 0, err
	}
	all = make(map[uint32]PRF, len(set.PRFs))
	for id, p := range set.PRFs {
		f := func(input []byte) (out [32]byte, err error) {
			sum, err := p.ComputePRF(input, uint32(len(out)))
			if err != nil {
				return out, err
			}
			copy(out[:], sum)
			return out, nil
		}
		if _, err := f(nil); err != nil {
			return nil, 0, fmt.Errorf("key %d: %w", id, err)
		}
		all[id] = f
	}
	return all, set.PrimaryID, nil
}

// inOrder lists the functions of enabled keys, the primary one first, the others newest first.
func inOrder(info *tinkpb.KeysetInfo, all map[uint32]PRF, primary uint32) []PRF {
	out := []PRF{all[primary]}
	for _, key := range slices.Backward(info.GetKeyInfo()) {
		if f, ok := all[key.GetKeyId()]; ok && key.GetKeyId() != primary {
			out = append(out, f)
		}
	}
	return out
}

// refuseForeign finds key files in the role's directory that the role must not have: whoever takes the process would take them too.
// Hidden names are passed over, because secret stores that are mounted as files keep their book-keeping under such names.
func refuseForeign(home string, g grant) error {
	entries, err := os.ReadDir(home)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: no keys of role %s here: make them with \"otpost keys init\", or add them to others with \"otpost keys init --missing\"", home, g.role)
	}
	if err != nil {
		return fmt.Errorf("reading keys of role %s: %w", g.role, err)
	}
	allowed := g.files()
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || slices.Contains(allowed, name) {
			continue
		}
		stem, _, _ := strings.Cut(name, ".")
		if slices.Contains(Keysets(), Keyset(stem)) || strings.HasSuffix(name, ".json") {
			return fmt.Errorf("%s: role %s must not hold this file: remove it", filepath.Join(home, name), g.role)
		}
	}
	return nil
}

// checkKind makes sure that every key is of the keyset's kind, so that files that were swapped are noticed.
func checkKind(info *tinkpb.KeysetInfo, k Keyset) error {
	want := k.template().GetTypeUrl()
	primary := false
	for _, key := range info.GetKeyInfo() {
		if key.GetTypeUrl() != want {
			return fmt.Errorf("key %d is of kind %s, not %s", key.GetKeyId(), key.GetTypeUrl(), want)
		}
		if key.GetKeyId() == info.GetPrimaryKeyId() && key.GetStatus() == tinkpb.KeyStatusType_ENABLED {
			primary = true
		}
	}
	if !primary {
		return errors.New("has no primary key that is enabled")
	}
	return nil
}
