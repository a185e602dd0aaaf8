package enrolment

import (
	"encoding/json"
	"fmt"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is how apps and people hear of a recovery.

// by names who acts, as events do.
func (a *act) by() string {
	switch {
	case a.caller.agent != "":
		return event.BySupport
	case a.caller.system:
		return event.BySystem
	}
	return event.ByUser
}

// tellRecovery puts an event of a recovery into the outbox. Each comes once in the life of a recovery, or once for each right proof, and its id says so: a
// proof may be given again where another session has taken the recovery over.
func (a *act) tellRecovery(name event.Name, rec postgres.Recovery, d event.RecoveryData) {
	d.User, d.Session, d.Recovery = a.Who.User, rec.Session, rec.ID.String()
	id := fmt.Sprintf("%s/%s", rec.ID, name)
	if d.Proof != "" {
		id = fmt.Sprintf("%s/%s/%d", id, d.Proof, rec.Attempts)
	}
	a.Tell(outbox.Entry(event.Event{App: a.caller.app.Name, Name: name, ID: id, Subject: rec.ID.String(), Time: a.Now, Data: d}))
}

// notifyRecovery leaves a notice with the code that stops the recovery.
func (a *act) notifyRecovery(n otp.Notice, rec postgres.Recovery) error {
	b, err := json.Marshal(noticed{
		NoticeDetail: event.NoticeDetail{Effective: rec.EffectiveAt}, Cancel: &cancelCode{ID: rec.ID, Nonce: rec.Nonce, Key: rec.KeyID},
	})
	if err != nil {
		return fmt.Errorf("notice: %w", err)
	}
	return a.Notify(n, b)
}
