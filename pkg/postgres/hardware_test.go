package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// stock is n event-based tokens.
func stock(n int) []postgres.NewToken {
	out := make([]postgres.NewToken, n)
	for i := range out {
		out[i] = postgres.NewToken{
			ID: uuid.New(), Kind: otp.FactorHOTP, Serial: fmt.Sprintf("A-%05d", i), Sealed: []byte{0, byte(i), '\\', '"', 0xff}, Algorithm: "SHA1", Digits: 6, Used: int64(i),
		}
	}
	return out
}

func TestImportIsWhole(t *testing.T) {
	b := newBench(t)
	factors := postgres.NewFactors(b.db.Role("operator"))
	tokens := stock(4500) // several statements
	if err := factors.Import(t.Context(), b.clock.Now(), b.app.ID, tokens, nil); err != nil {
		t.Fatal(err)
	}
	if n := otposttest.Get[int](t, b.db, `SELECT count(*) FROM hardware_tokens WHERE counter = right(serial, 5)::integer - 1 AND assigned_at IS NULL`); n != len(tokens) {
		t.Errorf("%d tokens are as they should be, want %d", n, len(tokens))
	}
	if sealed := otposttest.Get[[]byte](t, b.db, `SELECT sealed FROM hardware_tokens WHERE serial = 'A-00007'`); !slices.Equal(sealed, tokens[7].Sealed) {
		t.Errorf("sealed % x became % x", tokens[7].Sealed, sealed)
	}
	list, err := factors.Tokens(t.Context(), b.app.ID)
	if err != nil || len(list) != len(tokens) || list[0].Serial != "A-00000" || list[0].ID != tokens[0].ID || !list[0].AssignedAt.IsZero() {
		t.Errorf("the list has %d tokens (%v)", len(list), err)
	}

	// The last of the new ones is there, or cannot become what it should: then none is.
	again := append(stock(1), tokens[4499])
	again[0].Serial = "B-1"
	err = factors.Import(t.Context(), b.clock.Now(), b.app.ID, again, nil)
	if e, ok := errors.AsType[*postgres.KnownTokensError](err); !ok || !slices.Equal(e.Serials, []string{"A-04499"}) {
		t.Errorf("a token that is there: %v", err)
	}
	if err := factors.Known(t.Context(), b.app.ID, again); err == nil || !strings.Contains(err.Error(), "1 of the tokens are there already: A-04499") {
		t.Errorf("looked for: %v", err)
	}
	again[1] = postgres.NewToken{ID: uuid.New(), Kind: otp.FactorYubikey, Serial: "Y-1", PublicID: "cccccccccccc", Sealed: []byte("sealed"), Assigned: true}
	user := postgres.Account{AppID: b.app.ID, User: "u"}
	f := postgres.NewFactor{ID: tokens[0].ID, Account: user, Kind: otp.FactorYubikey, Sealed: []byte("sealed"), PublicID: "cccccccccccc"}
	if err := factors.Add(t.Context(), b.clock.Now(), f); err != nil {
		t.Fatal(err)
	}
	if err := factors.Import(t.Context(), b.clock.Now(), b.app.ID, again[:1], []postgres.NewFactor{f}); !errors.Is(err, postgres.ErrTaken) {
		t.Errorf("a factor that is one: %v", err)
	}
	if err := factors.Import(t.Context(), b.clock.Now(), b.app.ID, again, nil); err == nil || !strings.Contains(err.Error(), "Y-1") {
		t.Errorf("a public id that is a factor's: %v", err)
	}
	if n := otposttest.Get[int](t, b.db, `SELECT count(*) FROM hardware_tokens`); n != len(tokens) {
		t.Errorf("%d tokens after refused imports, want %d", n, len(tokens))
	}
	other := b.db.App(t, "other") // whose tokens are its own
	if err := factors.Import(t.Context(), b.clock.Now(), other.ID, stock(1), nil); err != nil {
		t.Errorf("the same serial number of another app: %v", err)
	}
}

// Of imports of the same tokens at once one takes them in, and the others say which are there.
func TestImportsAtOnce(t *testing.T) {
	b := newBench(t)
	factors := postgres.NewFactors(b.db.Role("operator"))
	const imports = 6
	results := make([]error, imports)
	atOnce(imports, func(i int) {
		tokens := stock(50)
		if i%2 == 1 {
			slices.Reverse(tokens) // another order would deadlock, where they do not take turns
		}
		results[i] = factors.Import(t.Context(), b.clock.Now(), b.app.ID, tokens, nil)
	})
	took := 0
	for _, err := range results {
		if err == nil {
			took++
		} else if e, ok := errors.AsType[*postgres.KnownTokensError](err); !ok || len(e.Serials) != 50 || !strings.Contains(e.Error(), "and 30 more") {
			t.Errorf("an import says: %v", err)
		}
	}
	if n := otposttest.Get[int](t, b.db, `SELECT count(*) FROM hardware_tokens`); took != 1 || n != 50 {
		t.Errorf("%d imports took in %d tokens", took, n)
	}
}

// What the operator adds is active with all that goes with a new factor.
func TestOperatorsFactor(t *testing.T) {
	b := newBench(t)
	factors := postgres.NewFactors(b.db.Role("operator"))
	b.issued("u", "first") // there is an account to hold
	key := uuid.New()
	for i, kind := range []otp.FactorKind{otp.FactorHOTP, otp.FactorEmail} {
		f := postgres.NewFactor{
			ID: uuid.New(), Account: postgres.Account{AppID: b.app.ID, User: "u"}, Kind: kind, Label: "mine", Sealed: []byte("sealed"), UserKey: key,
			TOTP: otp.TOTP{Algorithm: "SHA256", Digits: 7}, Used: 12,
		}
		if err := factors.Add(t.Context(), b.clock.Now(), f); err != nil {
			t.Fatal(err)
		}
		for what, count := range map[string]string{
			"factor":  `SELECT count(*) FROM factors WHERE id = $1 AND state = 'active' AND (kind = 'email' OR last_step = 11 AND algorithm = 'SHA256' AND digits = 7 AND period IS NULL)`,
			"audit":   `SELECT count(*) FROM audit WHERE factor = $1 AND user_key = $2 AND actor = 'operator' AND action = 'factor.added' AND detail ? 'kind'`,
			"notices": `SELECT count(*) FROM notices WHERE user_id = 'u' AND notice = 'factor_added' AND detail->>'factor' = $1 AND detail->>'label' = 'mine'`,
			"users":   `SELECT count(*) FROM users WHERE user_id = 'u' AND activated_at = $1 AND epoch = $2`,
		} {
			args := map[string][]any{"factor": {f.ID}, "audit": {f.ID, key}, "notices": {string(kind)}, "users": {b.clock.Now(), i + 1}}[what]
			if n := otposttest.Get[int](t, b.db, count, args...); n != 1 {
				t.Errorf("%s of %s: %d rows, want 1", what, kind, n)
			}
		}
	}
	b.db.Exec(t, "UPDATE accounts SET failures = 9")
	if err := factors.Unlock(t.Context(), b.clock.Now(), postgres.Account{AppID: b.app.ID, User: "u"}, key); err != nil {
		t.Fatal(err)
	}
	if n := otposttest.Get[int](t, b.db, `SELECT count(*) FROM audit WHERE action = 'account.unlocked' AND user_key = $1`, key); n != 1 {
		t.Errorf("%d lines of the unlocking, want 1", n)
	}
	if err := factors.Unlock(t.Context(), b.clock.Now(), postgres.Account{AppID: b.app.ID, User: "nobody"}, key); !errors.Is(err, postgres.ErrNoAccount) {
		t.Errorf("unlocking nobody: %v", err)
	}
	if n := otposttest.Get[int](t, b.db, `SELECT count(*) FROM audit`); n != 3 {
		t.Errorf("%d lines in all, want 3", n)
	}
}
