package otp

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// recoveryStates is every state.
var recoveryStates = []RecoveryState{
	RecoveryApproval, RecoveryProving, RecoveryWaiting, RecoveryCompleted, RecoveryCancelled, RecoveryExpired, RecoveryRefused,
}

func TestProofsComplete(t *testing.T) {
	for _, c := range []struct {
		proven []ProofKind
		ok     bool
	}{
		{nil, false},
		{[]ProofKind{ProofEmail}, false},
		{[]ProofKind{ProofEmail, ProofEmail}, false},
		{[]ProofKind{ProofLetter, ProofLetter, ProofLetter}, false},
		{[]ProofKind{ProofPassphrase, ProofBackupCode}, false},
		{[]ProofKind{ProofPassphrase, ProofPassphrase}, false},
		{[]ProofKind{ProofBackupCode, ProofBackupCode}, false},
		{[]ProofKind{ProofEmail, "carrier_pigeon"}, false},
		{[]ProofKind{ProofEmail, ProofPhone}, true},
		{[]ProofKind{ProofLetter, ProofEmail}, true},
		{[]ProofKind{ProofPhone, ProofLetter}, true},
		{[]ProofKind{ProofPassphrase, ProofEmail}, true},
		{[]ProofKind{ProofPhone, ProofBackupCode}, true},
		{[]ProofKind{ProofLetter, ProofPassphrase}, true},
		{[]ProofKind{ProofEmail, ProofPhone, ProofLetter, ProofPassphrase, ProofBackupCode}, true},
	} {
		if ProofsComplete(c.proven) != c.ok {
			t.Errorf("%v: not %v", c.proven, c.ok)
		}
	}
}

var proofs = []ProofKind{ProofEmail, ProofPhone, ProofLetter, ProofPassphrase, ProofBackupCode}

// TestProofsCompleteProperties expects that neither order nor repetition counts, that more proofs never harm, and that two different ones with a sent
// code among them are needed, whatever else is put in.
func TestProofsCompleteProperties(t *testing.T) {
	some := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(proofs), rapid.Map(rapid.String(), func(s string) ProofKind { return ProofKind("x" + s) })), 0, 8)
	rapid.Check(t, func(t *rapid.T) {
		proven := some.Draw(t, "proven")
		complete := ProofsComplete(proven)
		if other := rapid.Permutation(append(slices.Clone(proven), proven...)).Draw(t, "again"); ProofsComplete(other) != complete {
			t.Fatalf("%v: %v; in another order and twice, %v: not so", proven, complete, other)
		}
		if complete && !ProofsComplete(append(slices.Clone(proven), some.Draw(t, "more")...)) {
			t.Fatalf("%v was complete and with more is not", proven)
		}
		different, codes := map[ProofKind]bool{}, 0
		for _, p := range proven {
			if p.Valid() && !different[p] {
				different[p] = true
				if p.IsCode() {
					codes++
				}
			}
		}
		if want := len(different) >= 2 && codes >= 1; complete != want {
			t.Fatalf("%v: %v", proven, complete)
		}
	})
}

func TestProofKinds(t *testing.T) {
	for _, p := range proofs {
		if !p.Valid() || p.IsCode() != (p != ProofPassphrase && p != ProofBackupCode) {
			t.Errorf("%s: valid %v, code %v", p, p.Valid(), p.IsCode())
		}
	}
	if ProofKind("").Valid() || ProofKind("sms").IsCode() {
		t.Error("an unknown proof is taken")
	}
}

func TestMethodLife(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		kind            ProofKind
		country, region string
		want            time.Duration
	}{
		{ProofPhone, "US", "CA", 10 * time.Minute},
		{ProofPhone, "CZ", "", 10 * time.Minute},
		{ProofEmail, "US", "AK", day},
		{ProofLetter, "US", "CA", 21 * day},
		{ProofLetter, "US", "DC", 21 * day},
		{ProofLetter, "US", "", 30 * day},
		{ProofLetter, "US", "AK", 30 * day},
		{ProofLetter, "US", "HI", 30 * day},
		{ProofLetter, "US", "PR", 30 * day},
		{ProofLetter, "US", "GU", 30 * day},
		{ProofLetter, "US", "AP", 30 * day},
		{ProofLetter, "PR", "", 30 * day}, // a country of its own in ISO 3166-1
		{ProofLetter, "CZ", "", 30 * day},
		{ProofLetter, "", "", 30 * day},
		{ProofPassphrase, "US", "CA", 0},
		{ProofBackupCode, "US", "CA", 0},
		{"", "US", "CA", 0},
	} {
		if got := MethodLife(c.kind, c.country, c.region); got != c.want {
			t.Errorf("%s to %q, %q: %s, not %s", c.kind, c.country, c.region, got, c.want)
		}
	}
}

func TestRecoveryMoves(t *testing.T) {
	allowed := map[[2]RecoveryState]bool{
		{RecoveryApproval, RecoveryProving}: true, {RecoveryApproval, RecoveryRefused}: true, {RecoveryApproval, RecoveryCancelled}: true,
		{RecoveryApproval, RecoveryExpired}: true, {RecoveryProving, RecoveryWaiting}: true, {RecoveryProving, RecoveryCompleted}: true,
		{RecoveryProving, RecoveryCancelled}: true, {RecoveryProving, RecoveryExpired}: true, {RecoveryWaiting, RecoveryCompleted}: true,
		{RecoveryWaiting, RecoveryCancelled}: true,
	}
	for _, from := range append(slices.Clone(recoveryStates), "", "unknown") {
		for _, to := range append(slices.Clone(recoveryStates), "", "unknown") {
			if from.CanBecome(to) != allowed[[2]RecoveryState{from, to}] {
				t.Errorf("from %q to %q: %v", from, to, from.CanBecome(to))
			}
		}
	}
	for s, ended := range map[RecoveryState]bool{
		RecoveryApproval: false, RecoveryProving: false, RecoveryWaiting: false,
		RecoveryCompleted: true, RecoveryCancelled: true, RecoveryExpired: true, RecoveryRefused: true,
	} {
		if s.Ended() != ended {
			t.Errorf("%s: ended %v", s, s.Ended())
		}
	}
	if BeginRecovery(false, true) != RecoveryProving || BeginRecovery(true, false) != RecoveryProving || BeginRecovery(true, true) != RecoveryApproval {
		t.Error("a wrong first state")
	}
}

// TestRecoveryHasNoWayRound plays recoveries: whatever happens in whatever order, one that completes was proven, waited out its time and was approved
// where it had to be; one that has ended stays as it is; and a legal move is always left until then.
func TestRecoveryHasNoWayRound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wait := rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "wait")
		mustApprove := rapid.Bool().Draw(t, "support begins it and policy asks for approval")
		state := BeginRecovery(mustApprove, mustApprove)
		approved, waited := false, false
		var proven []ProofKind
		move := func(to RecoveryState) bool {
			if !state.CanBecome(to) {
				return false
			}
			if state.Ended() {
				t.Fatalf("%s has ended and became %s", state, to)
			}
			state = to
			return true
		}
		t.Repeat(map[string]func(*rapid.T){
			"approve": func(*rapid.T) { approved = state == RecoveryApproval && move(RecoveryProving) || approved },
			"refuse":  func(*rapid.T) { move(RecoveryRefused) },
			"cancel":  func(*rapid.T) { move(RecoveryCancelled) },
			"expire":  func(*rapid.T) { move(RecoveryExpired) },
			"prove": func(t *rapid.T) {
				if state == RecoveryProving {
					proven = append(proven, rapid.SampledFrom(proofs).Draw(t, "proof"))
				}
				if next := state.Proven(proven, wait); next != state && !move(next) {
					t.Fatalf("%s became %s", state, next)
				}
			},
			"time passes": func(*rapid.T) { waited = state == RecoveryWaiting && move(RecoveryCompleted) || waited },
			"": func(t *rapid.T) {
				if !slices.Contains(recoveryStates, state) {
					t.Fatalf("unknown state %q", state)
				}
				if (state == RecoveryWaiting || state == RecoveryCompleted) && !ProofsComplete(proven) {
					t.Fatalf("%s with the proofs %v", state, proven)
				}
				if state == RecoveryCompleted && (mustApprove && !approved || wait > 0 && !waited) {
					t.Fatalf("completed; approved %v of %v, waited %v of %s", approved, mustApprove, waited, wait)
				}
				left := slices.ContainsFunc(recoveryStates, state.CanBecome)
				if left == state.Ended() {
					t.Fatalf("%s: ended %v, and a move is left: %v", state, state.Ended(), left)
				}
			},
		})
	})
}
