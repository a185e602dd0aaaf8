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

// Init makes a first key for every keyset and writes dir/ROLE/KEYSET.json for every role. It returns [ErrExists] if dir holds anything
// already. The directory appears whole or not at all: it is prepared beside its final place, synced to disk and renamed.
func Init(dir string) error {
	dir = filepath.Clean(dir)
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("keyring: %s: %w", dir, ErrExists)
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keyring: %w", err)
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, ".otpost-keys-*") // mode 0700
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	defer os.RemoveAll(tmp) // after the rename there is nothing left to remove
	if err := populate(tmp); err != nil {
		return fmt.Errorf("keyring: making keys: %w", err)
	}
	// An empty directory may stand in the place. Remove takes nothing else away, so keys that appeared meanwhile survive.
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keyring: %s cannot be replaced (if it is a mount, name a directory inside it): %w", dir, err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("keyring: %s: %w", dir, ErrExists)
		}
		return fmt.Errorf("keyring: %w", err)
	}
	return syncDir(parent)
}

// populate fills an empty directory with a fresh key of each keyset for every role.
func populate(dir string) error {
	for _, role := range Roles() {
		if err := os.Mkdir(filepath.Join(dir, string(role)), 0o700); err != nil {
			return err
		}
	}
	for _, k := range Keysets() {
		handle, err := keyset.NewHandle(k.template())
		if err != nil {
			return fmt.Errorf("keyset %s: %w", k, err)
		}
		if err := writeCopies(dir, k, holders(k), handle); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// Add puts a new key into every role's copy of the keyset, to be known but not yet used, and returns its id. Restart the roles that hold
// the keyset, then [Promote] it.
//
// Add, Promote and Remove replace each file whole. Cut short between two files they leave copies that differ, which does no harm and is
// mended by running them again. They are the operator's tools: run one at a time, and only where the whole directory is.
func Add(dir string, k Keyset) (keyID uint32, err error) {
	err = change(dir, k, leadFirst, func(m *keyset.Manager, _ *tinkpb.KeysetInfo) error {
		keyID, err = m.Add(k.template())
		return err
	})
	return keyID, err
}

// Promote makes the newest key of the keyset the one that is used from now on, and returns its id. It returns [ErrNoNewKey] if that key
// is in use everywhere already. Restart the roles that hold the keyset.
func Promote(dir string, k Keyset) (keyID uint32, err error) {
	err = change(dir, k, leadFirst, func(m *keyset.Manager, info *tinkpb.KeysetInfo) error {
		newest := info.GetKeyInfo()[len(info.GetKeyInfo())-1]
		keyID = newest.GetKeyId()
		if keyID == info.GetPrimaryKeyId() {
			return ErrNoNewKey
		}
		return m.SetPrimary(keyID)
	})
	return keyID, err
}

// Remove takes a key that is no longer used out of every copy. Whatever was sealed or derived with it is lost: challenges still open
// with a code key, addresses and secrets not sealed anew. It returns [ErrInUse] for the primary key and [ErrUnknownKey] if there is none
// of that id.
func Remove(dir string, k Keyset, keyID uint32) error {
	return change(dir, k, leadLast, func(m *keyset.Manager, info *tinkpb.KeysetInfo) error {
		if keyID == info.GetPrimaryKeyId() {
			return fmt.Errorf("key %d: %w", keyID, ErrInUse)
		}
		if !slices.ContainsFunc(info.GetKeyInfo(), func(i *tinkpb.KeysetInfo_KeyInfo) bool { return i.GetKeyId() == keyID }) {
			return fmt.Errorf("key %d: %w", keyID, ErrUnknownKey)
		}
		return m.Delete(keyID)
	})
}

// The order in which copies are written keeps the leading copy the fullest at every instant, which is what makes an interrupted change
// safe to repeat: a new key is written there first, an old one is taken from there last.
const (
	leadFirst = false
	leadLast  = true
)

// change applies edit to the leading copy of the keyset and writes the result to all copies.
func change(dir string, k Keyset, reverse bool, edit func(*keyset.Manager, *tinkpb.KeysetInfo) error) error {
	if k.template() == nil {
		return fmt.Errorf("keyring: no keyset %q", k)
	}
	lead, behind, err := readCopies(dir, k)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	m := keyset.NewManagerFromHandle(lead)
	err = edit(m, lead.KeysetInfo())
	mend := errors.Is(err, ErrNoNewKey) && len(behind) > 0 // an earlier Promote was cut short after the leading copy
	if err != nil && !mend {
		return fmt.Errorf("keyring: keyset %s: %w", k, err)
	}
	handle, err := m.Handle()
	if err != nil {
		return fmt.Errorf("keyring: keyset %s: %w", k, err)
	}
	order := holders(k)
	if reverse {
		slices.Reverse(order)
	}
	if err := writeCopies(dir, k, order, handle); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	return nil
}

// readCopies reads every role's copy. It returns the leading one and the roles whose copy differs from it. A copy with a key that the
// leading one lacks is an error, because writing over it would lose that key.
func readCopies(dir string, k Keyset) (lead *keyset.Handle, behind []Role, err error) {
	roles := holders(k)
	leadPath := filepath.Join(dir, string(roles[0]), keysetFile(k))
	lead, err = readKeyset(leadPath, k)
	if err != nil {
		return nil, nil, err
	}
	known := map[uint32]*tinkpb.KeyData{}
	for _, key := range insecurecleartextkeyset.KeysetMaterial(lead).GetKey() {
		known[key.GetKeyId()] = key.GetKeyData()
	}
	for _, role := range roles[1:] {
		path := filepath.Join(dir, string(role), keysetFile(k))
		handle, err := readKeyset(path, k)
		if err != nil {
			return nil, nil, err
		}
		for _, key := range insecurecleartextkeyset.KeysetMaterial(handle).GetKey() {
			if !proto.Equal(known[key.GetKeyId()], key.GetKeyData()) {
				return nil, nil, fmt.Errorf("%s holds key %d, which %s does not: these copies are not of one keyset", path, key.GetKeyId(), leadPath)
			}
		}
		if !proto.Equal(handle.KeysetInfo(), lead.KeysetInfo()) {
			behind = append(behind, role)
		}
	}
	for _, role := range informed(k) {
		info, err := readInfo(filepath.Join(dir, string(role), infoFile(k)), k)
		if err != nil {
			return nil, nil, err
		}
		if !proto.Equal(info, lead.KeysetInfo()) {
			behind = append(behind, role)
		}
	}
	return lead, behind, nil
}

// Status is what can be told of a keyset without showing a key.
type Status struct {
	Keyset Keyset
	Keys   []Key  // oldest first
	Roles  []Role // who holds the keyset
	Behind []Role // whose copy differs from the leading one, because a change was cut short: run it again
}

// Key is one key of a keyset.
type Key struct {
	ID      uint32
	Primary bool // used for whatever is sealed or derived from now on
	Enabled bool // usable for what was sealed or derived with it
}

// List returns the state of every keyset in dir, as the leading copies have it.
func List(dir string) ([]Status, error) {
	var list []Status
	for _, k := range Keysets() {
		lead, behind, err := readCopies(dir, k)
		if err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		s := Status{Keyset: k, Roles: holders(k), Behind: behind}
		info := lead.KeysetInfo()
		for _, key := range info.GetKeyInfo() {
			s.Keys = append(s.Keys, Key{
				ID:      key.GetKeyId(),
				Primary: key.GetKeyId() == info.GetPrimaryKeyId(),
				Enabled: key.GetStatus() == tinkpb.KeyStatusType_ENABLED,
			})
		}
		list = append(list, s)
	}
	return list, nil
}
