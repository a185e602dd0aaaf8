//go:build !unix

package keyring

import "os"

// keepOwner does nothing where files have no numeric owner.
func keepOwner(*os.File, os.FileInfo) error { return nil }
