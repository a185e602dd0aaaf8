package keyring

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"google.golang.org/protobuf/proto"
)

// What the first version made. It is in every directory of keys that is whole.
var (
	firstRoles   = []Role{SMS, Email, Verification, Operator, Challenge}
	firstKeysets = []Keyset{Code, DestinationSMS, DestinationEmail, Secret, Index}
)

// Complete adds to dir what a newer version of otpost needs and an older one has not made: folders of roles, keysets, and copies of keysets
// for roles that did not hold them. It returns the files that it made, below dir. No file that is there is touched. Where dir is missing or empty it returns
// ErrNoKeys: new keys are [Init]'s to make, and whoever completes has old ones somewhere.
//
// It must be run where the folders of all roles are, and refuses elsewhere; nor does it make a keyset anew that every version has had. Either
// would put a second key beside one that has sealed things already, and hide that until nobody can mend it. Cut short, it is mended by running
// it again.
func Complete(dir string) (made []string, err error) {
	dir = filepath.Clean(dir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil, fmt.Errorf("keyring: %s: %w", dir, ErrNoKeys)
	}
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	for _, role := range firstRoles {
		if there, err := exists(filepath.Join(dir, string(role))); err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		} else if !there {
			return nil, fmt.Errorf("keyring: %s has no folder of role %s: keys are completed where the folders of all roles are", dir, role)
		}
	}
	var missing []gap
	for _, k := range Keysets() {
		gaps, err := findGaps(dir, k)
		if err != nil {
			return nil, fmt.Errorf("keyring: keyset %s: %w", k, err)
		}
		missing = append(missing, gaps...)
	}
	for _, g := range missing {
		path := filepath.Join(dir, g.file)
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return made, fmt.Errorf("keyring: %w", err)
		}
		if err := writePrivate(path, g.text); err != nil {
			return made, fmt.Errorf("keyring: %w", err)
		}
		made = append(made, g.file)
	}
	if len(missing) == 0 {
		return nil, nil
	}
	return made, syncDir(dir)
}

// ErrNoKeys says that there are no keysets where some were to be completed.
var ErrNoKeys = errors.New("there are no keysets here")

// A gap is a file that is to be there and is not.
type gap struct {
	file string // below the directory of keys
	text []byte
}

// findGaps returns what is missing of a keyset. Where it has no copy yet, its first key is made here, and all of it is missing.
func findGaps(dir string, k Keyset) ([]gap, error) {
	var have, lack []Role
	for _, role := range holders(k) {
		there, err := exists(filepath.Join(dir, string(role), keysetFile(k)))
		if err != nil {
			return nil, err
		}
		if there {
			have = append(have, role)
		} else {
			lack = append(lack, role)
		}
	}
	var uninformed []Role
	for _, role := range informed(k) {
		there, err := exists(filepath.Join(dir, string(role), infoFile(k)))
		if err != nil {
			return nil, err
		}
		if !there {
			uninformed = append(uninformed, role)
		}
	}
	if len(lack)+len(uninformed) == 0 {
		return nil, nil
	}
	if len(have) == 0 && (slices.Contains(firstKeysets, k) || len(uninformed) < len(informed(k))) {
		return nil, fmt.Errorf("%s has no copy of it, and a new key would not open what the lost one has sealed: bring a copy back", dir)
	}
	handle, err := fullest(dir, k, have)
	if err != nil {
		return nil, err
	}
	keys, info, err := texts(k, handle)
	if err != nil {
		return nil, err
	}
	var gaps []gap
	for _, role := range lack {
		gaps = append(gaps, gap{filepath.Join(string(role), keysetFile(k)), keys})
	}
	for _, role := range uninformed {
		gaps = append(gaps, gap{filepath.Join(string(role), infoFile(k)), info})
	}
	return gaps, nil
}

// fullest returns the copy that holds every key of every other copy. There is one, unless the copies are not of one keyset: changes write the
// leading copy first and take from it last. Of a keyset without copies it makes the first key.
func fullest(dir string, k Keyset, have []Role) (*keyset.Handle, error) {
	if len(have) == 0 {
		return keyset.NewHandle(k.template())
	}
	handles := make([]*keyset.Handle, len(have))
	for i, role := range have {
		var err error
		if handles[i], err = readKeyset(filepath.Join(dir, string(role), keysetFile(k)), k); err != nil {
			return nil, err
		}
	}
	for _, h := range handles {
		if !slices.ContainsFunc(handles, func(other *keyset.Handle) bool { return !covers(h, other) }) {
			return h, nil
		}
	}
	return nil, fmt.Errorf("the copies of roles %v are not of one keyset", have)
}

// covers reports whether a keyset holds every key of another.
func covers(all, some *keyset.Handle) bool {
	known := insecurecleartextkeyset.KeysetMaterial(all).GetKey()
	for _, key := range insecurecleartextkeyset.KeysetMaterial(some).GetKey() {
		i := slices.IndexFunc(known, func(k *tinkpb.Keyset_Key) bool { return k.GetKeyId() == key.GetKeyId() })
		if i < 0 || !proto.Equal(known[i].GetKeyData(), key.GetKeyData()) {
			return false
		}
	}
	return true
}

func exists(path string) (bool, error) {
	if _, err := os.Lstat(path); err == nil {
		return true, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	return false, nil
}
