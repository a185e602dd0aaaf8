package postgres_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// BenchmarkAdmit is a batch of a hundred logins of different users to different numbers, without and with what DefaultLimits counts of each: the user, the
// number and the network, which are its own, and the prefix, which it shares with nine others.
func BenchmarkAdmit(b *testing.B) {
	const size = 100
	db := otposttest.Postgres(b)
	app, store, clock := db.App(b, "demo"), postgres.NewChallenges(db.Role("challenge")), otposttest.NewClock()
	run := 0
	for _, limited := range []bool{false, true} {
		b.Run(fmt.Sprintf("limits=%t", limited), func(b *testing.B) {
			for b.Loop() {
				run++
				batch := make([]postgres.Admission, size)
				limits := make([][]postgres.Limit, size)
				for i := range batch {
					id := fmt.Sprintf("%d-%d", run, i)
					var digest [32]byte
					copy(digest[:], uuid.NewString())
					batch[i] = postgres.Admission{
						Account: postgres.Account{AppID: app.ID, User: id}, Key: uuid.New(), About: uuid.New(), Challenge: otp.ChallengeID(clock.Now(), digest),
					}
					if limited {
						for _, scope := range []string{"user " + id, "number " + id, "ip " + id, fmt.Sprint("prefix ", i%10)} {
							limits[i] = append(limits[i], postgres.Limit{Key: limitKey(scope), Bound: otp.Bound{Minute: 1 << 30, Hour: 1 << 30, Day: 1 << 30}, N: 1})
						}
						batch[i].Limits = func(postgres.UserState) []postgres.Limit { return limits[i] }
					}
				}
				_, _, err := store.Admit(b.Context(), clock.Now(), batch, func(i int, u postgres.UserState) postgres.Decision {
					if u.Ledger.Judge(limits[i]).Refused() {
						b.Fatal("refused")
					}
					now := clock.Now()
					return postgres.Decision{Outcome: "issued", Charge: limits[i], Challenge: &postgres.NewChallenge{
						Session: "s", Login: "l", Factor: otp.FactorSMS, Nonce: []byte("0123456789abcdef"), KeyID: 1, Digits: 6, ToSMS: []byte("sealed"), MaskSMS: "+1",
						Attempts: 5, Sends: 3, NextSendAt: now, ExpiresAt: now.Add(300e9),
					}}
				}, noEvents)
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/size, "µs/login")
		})
	}
}
