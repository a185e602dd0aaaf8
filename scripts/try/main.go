// Command try is a login by hand, with nothing but a plain NATS client: it publishes a login event as JSON, prints what the app hears, asks for the code
// and has it checked.
//
//	go run ./scripts/try +14155550100
//	go run ./scripts/try user@example.com
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./scripts/try <phone number or email address>")
		os.Exit(2)
	}
	if err := try(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "try:", err)
		os.Exit(1)
	}
}

func try(address string) error {
	var endpoints struct {
		NATS string `json:"nats"`
		App  struct {
			Name     string `json:"name"`
			User     string `json:"nats_user"`
			Password string `json:"nats_password"`
		} `json:"app"`
	}
	text, err := os.ReadFile(".otpost/endpoints.json")
	if err != nil {
		return fmt.Errorf("is otpost up? %w", err)
	}
	if err := json.Unmarshal(text, &endpoints); err != nil {
		return err
	}
	nc, err := nats.Connect(endpoints.NATS, nats.UserInfo(endpoints.App.User, endpoints.App.Password))
	if err != nil {
		return err
	}
	defer nc.Close()
	mine := "otpost.app." + endpoints.App.Name

	id := fmt.Sprintf("try-%d", time.Now().UnixMilli())
	issued := make(chan string, 1)
	if _, err := nc.Subscribe(mine+".event.>", func(m *nats.Msg) {
		var e struct {
			Data struct{ Challenge, Login string }
		}
		if json.Unmarshal(m.Data, &e) != nil || e.Data.Login != id {
			return
		}
		fmt.Printf("\n← %s\n  %s\n", m.Subject, m.Data)
		if strings.HasSuffix(m.Subject, ".challenge.issued") {
			issued <- e.Data.Challenge
		}
	}); err != nil {
		return err
	}

	channel := "sms"
	if strings.Contains(address, "@") {
		channel = "email"
	}
	login, err := json.Marshal(map[string]any{
		"specversion": "1.0", "id": id, "source": "https://shop.example", "type": "otpost.login.requested.v1",
		"time": time.Now().UTC().Format(time.RFC3339),
		"data": map[string]any{"user": "u-42", "session": "s-9f", "to": map[string]string{channel: address}},
	})
	if err != nil {
		return err
	}
	fmt.Printf("→ %s.login\n  %s\n", mine, login)
	if _, err := nc.Request(mine+".login", login, 5*time.Second); err != nil { // the reply is JetStream's acknowledgement
		return fmt.Errorf("publish: %w", err)
	}
	var challenge string
	select {
	case challenge = <-issued:
	case <-time.After(10 * time.Second):
		return fmt.Errorf("no challenge was issued; look for challenge.refused above, or into otpost dead list")
	}
	time.Sleep(200 * time.Millisecond) // let challenge.sent be printed before the prompt

	fmt.Print("\nThe code (it is in the inbox): ")
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	answer, err := json.Marshal(map[string]string{"challenge": challenge, "session": "s-9f", "code": strings.TrimSpace(line)})
	if err != nil {
		return err
	}
	fmt.Printf("→ %s.rpc.verify\n", mine)
	reply, err := nc.Request(mine+".rpc.verify", answer, 5*time.Second)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	fmt.Printf("\n← %s\n", reply.Data)
	time.Sleep(200 * time.Millisecond) // the event of the verdict
	return nil
}
