package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"google.golang.org/protobuf/encoding/protojson"
)

// readKeyset reads a keyset in clear text and makes sure that its keys are of the keyset's kind.
func readKeyset(path string, k Keyset) (*keyset.Handle, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	// The parser's own error is not passed on: it may quote the text, which is keys.
	ks, err := keyset.NewJSONReader(bytes.NewReader(text)).Read()
	if err != nil {
		return nil, fmt.Errorf("%s: malformed: not a Tink keyset in JSON", path)
	}
	if err := keyset.Validate(ks); err != nil {
		return nil, fmt.Errorf("%s: malformed: %w", path, err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		return nil, fmt.Errorf("%s: malformed: a key does not parse", path)
	}
	if err := checkKind(handle.KeysetInfo(), k); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return handle, nil
}

// readInfo reads the ids of a keyset's keys.
func readInfo(path string, k Keyset) (*tinkpb.KeysetInfo, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	info := &tinkpb.KeysetInfo{}
	if err := protojson.Unmarshal(text, info); err != nil {
		return nil, fmt.Errorf("%s: malformed: not a Tink keyset info in JSON", path) // it might be a keyset: quote nothing
	}
	if err := checkKind(info, k); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return info, nil
}

// readPrivate reads a file that only its owner may read. The mode is asked of the opened file, so that it is the mode of what is read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: missing key file; one that a new version needs is added by \"otpost keys init --missing\"", path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading key file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s: key file is open to others (mode %04o): chmod 600 %s", path, mode, path)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("reading key file: %w", err)
	}
	return text, nil
}

// writeCopies writes the keyset for the roles in the order given, then its key ids for the roles that know only those.
func writeCopies(dir string, k Keyset, roles []Role, handle *keyset.Handle) error {
	keys, info, err := texts(k, handle)
	if err != nil {
		return err
	}
	for _, role := range roles {
		if err := writePrivate(filepath.Join(dir, string(role), keysetFile(k)), keys); err != nil {
			return err
		}
	}
	for _, role := range informed(k) {
		if err := writePrivate(filepath.Join(dir, string(role), infoFile(k)), info); err != nil {
			return err
		}
	}
	return nil
}

// texts returns what stands in the files of a keyset: the keys, and only their ids.
func texts(k Keyset, handle *keyset.Handle) (keys, info []byte, err error) {
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&b)); err != nil {
		return nil, nil, fmt.Errorf("keyset %s: %w", k, err)
	}
	if info, err = protojson.Marshal(handle.KeysetInfo()); err != nil {
		return nil, nil, fmt.Errorf("keyset %s: %w", k, err)
	}
	return b.Bytes(), info, nil
}

// writePrivate puts a file of mode 0600 in place at once: a reader sees the old text or the new one, also after a power cut. A file that
// is replaced keeps its owner, and a new one gets its folder's, so that what root does to keys does not lock the workers out.
func writePrivate(path string, text []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".key-*") // mode 0600
	if err != nil {
		return fmt.Errorf("writing key file: %w", err)
	}
	defer os.Remove(f.Name()) // after the rename there is nothing left to remove
	old, statErr := os.Stat(path)
	if errors.Is(statErr, os.ErrNotExist) {
		old, statErr = os.Stat(dir)
	}
	if statErr == nil {
		err = keepOwner(f, old)
	}
	if err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing key file %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("writing key file: %w", err)
	}
	return syncDir(dir)
}

// syncDir makes the names in a directory survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}
