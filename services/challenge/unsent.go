package challenge

import (
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file tells of deliveries to test destinations, of which no provider will: nothing is sent, and they count as delivered at once.

// testEvents are what follows a new challenge to a test destination. Their ids are the delivery's, so that telling them again is telling the same.
func (l *login) testEvents(a postgres.Admitted) []event.Event {
	if a.Challenge == nil || !a.Challenge.Test {
		return nil
	}
	ch, _ := a.Challenge.SendChannel()
	return testDelivery(l.App, about(l.User, l.Session, l.ID), a.ID, postgres.Delivery{Number: 1, Channel: ch}, a.At)
}

// testDelivery are the events of one delivery to a test destination.
func testDelivery(app string, who event.About, id uuid.UUID, d postgres.Delivery, at time.Time) (out []event.Event) {
	who.Test = true
	ref := event.Command{Challenge: id, Attempt: d.Number}.Reference()
	for _, s := range []struct {
		name  event.Name
		state otp.DeliveryState
	}{{event.ChallengeSent, otp.DeliveryAccepted}, {event.ChallengeDelivered, otp.DeliveryDelivered}} {
		out = append(out, event.Event{
			App: app, Name: s.name, ID: ref + "/" + string(s.state), Subject: id.String(), Time: at,
			Data: event.Delivery{About: who, Challenge: id.String(), Channel: string(d.Channel), Provider: postgres.TestProvider, Attempt: d.Number},
		})
	}
	return out
}
