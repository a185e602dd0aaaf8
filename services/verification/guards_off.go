//go:build unguarded

package verification

import "github.com/otpost/otpost/pkg/postgres"

func lastStep(postgres.OwnedFactor) int64 { return -1 }
