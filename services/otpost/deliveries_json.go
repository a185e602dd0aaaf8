package main

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/postgres"
)

// This file is the form in which programs read what people are told in words.

type caseJSON struct {
	Challenge  string         `json:"challenge"`
	User       string         `json:"user"`
	Login      string         `json:"login"`
	Factor     string         `json:"factor"`
	State      string         `json:"state"`
	Attempts   int            `json:"attempts"`
	Sends      int            `json:"sends"`
	Test       bool           `json:"test,omitempty"`
	CreatedAt  time.Time      `json:"created_at"`
	ExpiresAt  time.Time      `json:"expires_at"`
	EndedAt    time.Time      `json:"ended_at,omitzero"`
	Deliveries []deliveryJSON `json:"deliveries"`
	Strays     []strayJSON    `json:"strays,omitempty"`
	Verdict    string         `json:"verdict"` // for people
}

type deliveryJSON struct {
	Delivery    string    `json:"delivery"` // its reference
	Purpose     string    `json:"purpose"`
	Cause       string    `json:"cause,omitempty"`
	Channel     string    `json:"channel"`
	Country     string    `json:"country,omitempty"`
	Provider    string    `json:"provider,omitempty"`
	To          string    `json:"to"` // masked
	State       string    `json:"state"`
	Class       string    `json:"class,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Reference   string    `json:"reference,omitempty"` // the provider's own
	Tries       int       `json:"tries"`
	CostMicros  int64     `json:"cost_micros,omitempty"`
	QueuedAt    time.Time `json:"queued_at"`
	AcceptedAt  time.Time `json:"accepted_at,omitzero"`
	DeliveredAt time.Time `json:"delivered_at,omitzero"`
	AbandonedAt time.Time `json:"abandoned_at,omitzero"`
	DueAt       time.Time `json:"due_at,omitzero"`
	UpdatedAt   time.Time `json:"updated_at"`
}

type strayJSON struct {
	At        time.Time `json:"at"`
	Why       string    `json:"why"`
	Provider  string    `json:"provider"`
	State     string    `json:"state"`
	Reference string    `json:"reference,omitempty"`
	Delivery  string    `json:"delivery,omitempty"`
	Reason    string    `json:"reason,omitempty"`
}

// casesJSON is the whole answer; what enrolment sent stands beside the challenges.
func casesJSON(app string, cases []deliveryCase, others []postgres.Sent, now time.Time) any {
	out := struct {
		App        string         `json:"app"`
		Challenges []caseJSON     `json:"challenges"`
		Messages   []deliveryJSON `json:"messages"`
	}{app, make([]caseJSON, 0, len(cases)), make([]deliveryJSON, 0, len(others))}
	for _, c := range cases {
		one := caseJSON{
			Challenge: c.ID.String(), User: c.User, Login: c.Login, Factor: string(c.Factor), State: string(c.State), Attempts: c.Attempts, Sends: c.Sends,
			Test: c.Test, CreatedAt: c.CreatedAt.UTC(), ExpiresAt: c.ExpiresAt.UTC(), EndedAt: utc(c.EndedAt), Deliveries: []deliveryJSON{},
			Strays: straysJSON(c.strays), Verdict: c.verdict(now),
		}
		for _, d := range c.Deliveries {
			one.Deliveries = append(one.Deliveries, deliveryOut(c.ID, "login", d))
		}
		out.Challenges = append(out.Challenges, one)
	}
	for _, s := range others {
		out.Messages = append(out.Messages, deliveryOut(s.Message, s.Purpose, s.Delivery))
	}
	return out
}

func deliveryOut(of uuid.UUID, purpose string, d postgres.Delivery) deliveryJSON {
	return deliveryJSON{
		Delivery: fmt.Sprintf("%s-%d", of, d.Number), Purpose: purpose, Cause: d.Cause, Channel: string(d.Channel), Country: d.Country, Provider: d.Provider,
		To: d.Mask, State: string(d.State), Class: d.Class, Reason: d.Reason, Reference: d.Reference, Tries: d.Tries, CostMicros: d.Cost,
		QueuedAt: d.CreatedAt.UTC(), AcceptedAt: utc(d.AcceptedAt), DeliveredAt: utc(d.DeliveredAt), AbandonedAt: utc(d.AbandonedAt), DueAt: utc(d.DueAt),
		UpdatedAt: d.UpdatedAt.UTC(),
	}
}

func straysJSON(strays []postgres.Stray) []strayJSON {
	out := make([]strayJSON, len(strays))
	for i, s := range strays {
		out[i] = strayJSON{At: s.At.UTC(), Why: s.Why, Provider: s.Provider, State: string(s.State), Reference: s.Reference, Reason: s.Reason}
		if s.Challenge != uuid.Nil {
			out[i].Delivery = fmt.Sprintf("%s-%d", s.Challenge, s.Number)
		}
	}
	return out
}

// utc keeps a time that is not there as one that is left out.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}
