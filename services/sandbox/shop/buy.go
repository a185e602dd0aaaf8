package shop

import (
	"crypto/rand"
	"html/template"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A product is something to buy.
type product struct {
	ID, Name, Word, Price string
	Art                   template.HTML
}

func products() []product {
	all := []product{
		{ID: "teapot", Name: "Stoneware teapot", Word: "Holds four slow cups.", Price: "48.00 EUR"},
		{ID: "fern", Name: "Maidenhair fern", Word: "Likes mist and quiet.", Price: "19.50 EUR"},
		{ID: "notebook", Name: "Linen notebook", Word: "Lies flat, forgives ink.", Price: "14.00 EUR"},
		{ID: "lamp", Name: "Desk lamp", Word: "Warm light, one knob.", Price: "89.00 EUR"},
		{ID: "candle", Name: "Beeswax candle", Word: "Forty hours of evening.", Price: "12.00 EUR"},
		{ID: "chair", Name: "Beech chair", Word: "Sits well, says little.", Price: "140.00 EUR"},
	}
	for i := range all {
		all[i].Art = art(all[i].ID)
	}
	return all
}

func findProduct(id string) (product, bool) {
	all := products()
	i := slices.IndexFunc(all, func(p product) bool { return p.ID == id })
	if i < 0 {
		return product{}, false
	}
	return all[i], true
}

func (s *Shop) home(v *visit) { s.show(v, http.StatusOK, "home", products()) }

func (s *Shop) buyForm(v *visit) {
	p, ok := findProduct(v.r.PathValue("product"))
	if !ok {
		s.notFound(v)
		return
	}
	s.show(v, http.StatusOK, "buy", purchase{product: p})
}

// purchase is what the page of a purchase shows.
type purchase struct {
	product
	Fault string
}

// payee is who is paid, as the message with the code and otpost's pages say it.
const payee = "Demo shop"

// buy asks for a second factor that is bound to this purchase: the message says the amount and who is paid, and the code is right for nothing else
// (dynamic linking, Commission Delegated Regulation (EU) 2018/389, article 5). No trusted browser stands in for it, so no device is named. Who has no
// second factor buys by the password alone, as they signed in.
func (s *Shop) buy(v *visit) {
	p, ok := findProduct(v.r.PathValue("product"))
	if !ok {
		s.notFound(v)
		return
	}
	login := loginRequest{
		ID: "purchase-" + rand.Text(), User: v.session.user, Session: v.session.id, Locale: locale(v.r),
		Client: &client{IP: v.ip(), UserAgent: userAgent(v.r)}, Transaction: &transaction{Amount: p.Price, Payee: payee},
	}
	var reply loginReply
	if err := s.otpost.call(v.r.Context(), "login", login, &reply); err != nil {
		s.log.Error("asking otpost to confirm a purchase", "error", err)
		s.unavailable(v, err)
		return
	}
	switch reply.Outcome {
	case "issued":
		if !s.sessions.change(v.cookie, func(with *session) bool {
			with.challenge, with.buying = reply.Challenge, p.ID
			v.session = *with
			return true
		}) {
			v.redirect("/sign-in")
			return
		}
		s.openPage(v, "challenge")
	case "skipped":
		s.order(v, p, false)
	default:
		s.show(v, http.StatusForbidden, "buy", purchase{p, refusal(reply.Reason, reply.RetryAfter)})
	}
}

// confirmed ends a purchase after a visit to its challenge. The right to it is taken once: of two requests with it, one orders.
func (s *Shop) confirmed(v *visit, result pageResult) {
	bought := ""
	taken := s.sessions.change(v.cookie, func(with *session) bool {
		if with.state != full || with.challenge != v.session.challenge || with.buying == "" {
			return false
		}
		bought = with.buying
		with.challenge, with.buying = "", ""
		return true
	})
	p, ok := findProduct(bought)
	switch {
	case !taken || !ok:
		v.redirect("/account")
	case result.Outcome == "verified":
		keepDevice(v.w, result.Device)
		s.order(v, p, true)
	default:
		note(v, "not_bought")
		v.redirect("/buy/" + p.ID)
	}
}

func (s *Shop) order(v *visit, p product, confirmed bool) {
	s.orders.add(v.session.user, order{Name: p.Name, Price: p.Price, At: s.now().UTC().Format("15:04 UTC"), Confirmed: confirmed})
	note(v, "bought")
	v.redirect("/account")
}

// An order is something that was bought.
type order struct {
	Name, Price, At string
	Confirmed       bool // by a second factor
}

// orders are in memory, the last few of each user.
type orders struct {
	mu  sync.Mutex
	all map[string][]order
}

func newOrders() *orders { return &orders{all: map[string][]order{}} }

func (o *orders) add(user string, what order) {
	const kept = 5
	o.mu.Lock()
	defer o.mu.Unlock()
	list := append([]order{what}, o.all[user]...)
	o.all[user] = list[:min(kept, len(list))]
}

func (o *orders) of(user string) []order {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.all[user])
}

func (o *orders) forget(user string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.all, user)
}

// inWords says a waiting time as people do.
func inWords(d time.Duration) string {
	if d <= 90*time.Second {
		return plural(int((d+time.Second-1)/time.Second), "second")
	}
	if d <= 90*time.Minute {
		return plural(int((d+time.Minute-1)/time.Minute), "minute")
	}
	return plural(int((d+time.Hour-1)/time.Hour), "hour")
}
