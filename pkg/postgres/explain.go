package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// This file is what an operator asks of delivery: why a code did not arrive, where one would go, and how the providers do. It only reads.

// ChallengesOf returns up to limit challenges of a user that were asked for since a time, the newest first, each with its deliveries.
func (s *Statuses) ChallengesOf(ctx context.Context, app int, user string, since time.Time, limit int) ([]Challenge, error) {
	var rows []challengeRow
	if err := s.db.x.SelectContext(ctx, &rows, query("explain_challenges"), app, user, floorID(since), limit); err != nil {
		return nil, fmt.Errorf("read a user's challenges: %w", err)
	}
	ids := make([]uuid.UUID, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	past, err := deliveriesOfEach(ctx, s.db.x, ids)
	if err != nil {
		return nil, err
	}
	out := make([]Challenge, len(rows))
	for i, r := range rows {
		out[i] = r.challenge()
		out[i].Deliveries = past[r.ID]
	}
	return out, nil
}

// SentTo returns what became of up to limit messages of enrolment and recovery to a user, notices among them, that were written since a time.
func (s *Statuses) SentTo(ctx context.Context, app int, user string, since time.Time, limit int) ([]Sent, error) {
	var rows []MessageStatus
	if err := s.db.x.SelectContext(ctx, &rows, query("explain_messages"), app, user, since, limit); err != nil {
		return nil, fmt.Errorf("read a user's messages: %w", err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	return s.sent(ctx, rows)
}

// A Stray is a receipt that counted for nothing.
type Stray struct {
	At        time.Time
	Why       string // unknown, other_provider or late
	Provider  string
	Reference string    // the provider's own id
	Challenge uuid.UUID // zero where it named none
	Number    int       // of the delivery; 0 where it named none
	State     otp.DeliveryState
	Reason    string
}

// StraysOf returns the stray receipts that name one of some challenges, by challenge, the oldest first.
func (s *Statuses) StraysOf(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID][]Stray, error) {
	all, err := s.strays(ctx, "strays_of", pq.Array(ids))
	out := map[uuid.UUID][]Stray{}
	for _, one := range all {
		out[one.Challenge] = append(out[one.Challenge], one)
	}
	return out, err
}

// Strays returns up to limit stray receipts of all apps since a time, the newest first.
func (s *Statuses) Strays(ctx context.Context, since time.Time, limit int) ([]Stray, error) {
	return s.strays(ctx, "strays_since", since, limit)
}

func (s *Statuses) strays(ctx context.Context, statement string, args ...any) ([]Stray, error) {
	var rows []struct {
		At        time.Time     `db:"at"`
		Why       string        `db:"why"`
		Provider  string        `db:"provider"`
		Reference string        `db:"reference"`
		Challenge uuid.NullUUID `db:"challenge_id"`
		Attempt   sql.NullInt64 `db:"attempt"`
		State     string        `db:"state"`
		Reason    string        `db:"reason"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query(statement), args...); err != nil {
		return nil, fmt.Errorf("read stray receipts: %w", err)
	}
	out := make([]Stray, len(rows))
	for i, r := range rows {
		out[i] = Stray{
			At: r.At, Why: r.Why, Provider: r.Provider, Reference: r.Reference, Challenge: r.Challenge.UUID, Number: int(r.Attempt.Int64),
			State: otp.DeliveryState(r.State), Reason: r.Reason,
		}
	}
	return out, nil
}

// Reachable tells in which language a user is written to, empty where they have not said, and of which kinds their active factors are.
func (s *Statuses) Reachable(ctx context.Context, app int, user string) (locale string, has []otp.FactorKind, err error) {
	var row struct {
		Locale string         `db:"locale"`
		Kinds  pq.StringArray `db:"kinds"`
	}
	if err := s.db.x.GetContext(ctx, &row, query("explain_user"), app, user); err != nil {
		return "", nil, fmt.Errorf("read user: %w", err)
	}
	return row.Locale, kinds(row.Kinds), nil
}

// Stats returns what became of what was sent since a time, each lane together: of one app by its name, or of all where it is empty. What is counted
// together is counted whole, so that it may begin up to five minutes earlier.
func (s *Routes) Stats(ctx context.Context, app string, since time.Time) ([]DeliveryStat, error) {
	var rows []struct {
		Channel     string `db:"channel"`
		Country     string `db:"country"`
		Provider    string `db:"provider"`
		Sent        int64  `db:"sent"`
		Accepted    int64  `db:"accepted"`
		Delivered   int64  `db:"delivered"`
		Failed      int64  `db:"failed"`
		Late        int64  `db:"late"`
		Verified    int64  `db:"verified"`
		DeliveredMS int64  `db:"delivered_ms"`
		Cost        int64  `db:"cost"`
	}
	since = since.Truncate(slotSize)
	if err := s.db.x.SelectContext(ctx, &rows, query("delivery_stats_read"), since, app); err != nil {
		return nil, fmt.Errorf("read counts: %w", err)
	}
	out := make([]DeliveryStat, len(rows))
	for i, r := range rows {
		out[i] = DeliveryStat{
			Slot: since, App: app, Lane: Lane{otp.Channel(r.Channel), r.Country, r.Provider}, Sent: r.Sent, Accepted: r.Accepted, Delivered: r.Delivered,
			Failed: r.Failed, Late: r.Late, Verified: r.Verified, DeliveredMS: r.DeliveredMS, Cost: r.Cost,
		}
	}
	return out, nil
}

// Serving returns the route that serves an app's channel in a country: that of the app and country, of the app, of the country for all apps, or of all. ok
// is false where none is set; every provider of the channel serves then, in the order of the workers' configuration.
func Serving(all []Route, app int, ch otp.Channel, country string) (r Route, ok bool) {
	for _, level := range [...]struct {
		app     int
		country string
	}{{app, country}, {app, ""}, {0, country}, {0, ""}} {
		for _, r := range all {
			if r.AppID == level.app && r.Channel == ch && r.Country == level.country {
				return r, true
			}
		}
	}
	return Route{}, false
}
