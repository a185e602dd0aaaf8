package challenge

import (
	"fmt"
	"math"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// This file is who sends logins, and how often.

// A person is an honest user.
type person struct{ name, phone, ip string }

// populate makes the honest users: in five countries, a fifth of them behind twenty addresses that they share.
func (s *simulation) populate() {
	national := func(prefix string, digits int) string {
		for range digits {
			prefix += string(rune('0' + s.luck.IntN(10)))
		}
		return prefix
	}
	areas := []string{"212", "213", "312", "415", "503", "512", "617", "702", "713", "718", "786", "808", "818", "917", "972"}
	for i := 0; len(s.people) < s.users; i++ {
		p := person{name: fmt.Sprintf("user-%d", i), ip: fmt.Sprintf("100.%d.%d.7", i/250, i%250)}
		switch where := s.luck.IntN(100); {
		case where < 35:
			p.phone = national(fmt.Sprintf("+420%d", []int{601, 702, 720, 730, 770}[s.luck.IntN(5)]+s.luck.IntN(6)), 6)
		case where < 65:
			p.phone = national(fmt.Sprintf("+49%d", []int{151, 160, 170}[s.luck.IntN(3)]+s.luck.IntN(8)), 8)
		case where < 89:
			p.phone = national("+1"+areas[s.luck.IntN(len(areas))]+fmt.Sprint(2+s.luck.IntN(8)), 6)
		case where < 99:
			p.phone = national(fmt.Sprintf("+447%02d", 30+s.luck.IntN(28)), 7)
		default:
			p.phone = national(fmt.Sprintf("+3712%02d", 60+s.luck.IntN(20)), 5)
		}
		if s.luck.IntN(5) == 0 {
			p.ip = fmt.Sprintf("203.0.113.%d", s.luck.IntN(20))
		}
		if at := otp.LocatePhone(p.phone); at.Denied == "" && s.app.Policy.Delivery.Allows(at.Country) { // +44 has islands in it, that are countries
			s.people = append(s.people, p)
		}
	}
}

// logins is how many logins an actor sends within a minute.
func (s *simulation) logins(a actor, minute int, now time.Time) int {
	rate := 0.0
	if p := s.phases[a]; a != honest && minute >= p.from && minute < p.to {
		rate = float64(p.rate)
	}
	if a == honest { // little at night, most in the afternoon
		hour := float64(now.Hour()) + float64(now.Minute())/60
		rhythm := 1 - 0.85*math.Cos((hour-3)/24*2*math.Pi)
		rate = float64(s.users) * loginsPerDay / (24 * 60) * rhythm
	}
	n := int(rate)
	if s.luck.Float64() < rate-float64(n) {
		n++
	}
	return n
}

func (s *simulation) login(a actor, now time.Time) *login {
	s.serial++
	stranger := person{fmt.Sprintf("stranger-%d", s.serial), "", fmt.Sprintf("198.%d.%d.%d", 18+s.luck.IntN(2), s.luck.IntN(256), s.luck.IntN(256))}
	p := s.people[s.luck.IntN(len(s.people))]
	switch a {
	case sequential:
		p, s.next = stranger, s.next+1
		p.phone = fmt.Sprintf("%s%05d", pumpedRange, s.next%100_000)
	case scattered:
		p = stranger
		p.phone = fmt.Sprintf("%s%07d", pumpedAmong, s.luck.IntN(10_000_000))
	case abroad:
		p = stranger
		p.phone = fmt.Sprintf("+21698%06d", s.serial%1_000_000)
	case bomber:
		p, stranger.phone = stranger, s.people[0].phone
		p.phone = stranger.phone
	case guesser:
		p = s.people[1]
		p.ip = stranger.ip
	}
	l := &login{app: s.app, received: now, Login: event.Login{App: s.app.Name, ID: fmt.Sprint(s.serial), Time: now, Phone: p.phone, LoginData: event.LoginData{
		User: p.name, Session: fmt.Sprint("s", s.serial), Client: &event.Client{IP: p.ip},
	}}}
	if err := s.worker.identify(l); err != nil {
		s.Fatal(err)
	}
	return l
}
