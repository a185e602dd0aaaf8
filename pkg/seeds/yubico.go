package seeds

import (
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// What the lines of the Personalization Tool's log are about, and what of it holds no seed for otpost: the other uses of a slot, and changes of setting.
const (
	eventYubicoOTP = "Yubico OTP"
	eventHOTP      = "OATH-HOTP"
)

var otherEvents = []string{"LOGGING START", "Static Password", "Challenge-Response", "Configuration Update", "Configuration Swap"}

// looksYubico tells a file of Yubico's by its first line.
func looksYubico(line string) bool {
	cells := strings.Split(line, ",")
	if cells[0] == eventYubicoOTP || cells[0] == eventHOTP || strings.HasPrefix(line, "# ykksm") {
		return true
	}
	if slices.ContainsFunc(otherEvents, func(event string) bool { return strings.HasPrefix(line, event) }) {
		return true
	}
	return len(cells) >= 6 && cells[0] != "" && strings.Trim(cells[0], "0123456789") == ""
}

// readYubico reads what Yubico's tools write when they give YubiKeys new secrets. There are two forms, neither with a row of names.
//
// The "traditional format", the log of the Personalization Tool:
//
//	LOGGING START,date
//	Yubico OTP,date,slot,public id,private id,AES key,access code,new access code,…
//	OATH-HOTP,date,slot,token id,,secret,access code,new access code,modhex 1,modhex 2,modhex,digits,moving factor,…
//
// where the date may hold commas, ids are in modhex and secrets in hexadecimal. It tells no serial numbers: YubiKeys go by their public id and HOTP tokens
// by their token id, without which they are refused. Lines about static passwords, challenge-response and changes of setting are passed over.
//
// And what YubiKey Manager writes, the Personalization Tool as "Yubico format", and the key server ykksm reads, which is for Yubico OTP only:
//
//	serial,public id,private id,AES key,access code,date,…
func readYubico(in *meter, found *found) error {
	r := csv.NewReader(in)
	r.FieldsPerRecord = -1
	r.Comment = '#'
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return rowError(err)
		}
		line, _ := r.FieldPos(0)
		l := logLine{line, cells}
		for i, cell := range cells {
			if cells[i] = strings.TrimSpace(cell); len(cell) > MaxField {
				return l.wrong("row", fmt.Errorf("has a cell of more than %d bytes", MaxField))
			}
		}
		var seed Seed
		switch {
		case cells[0] == eventYubicoOTP || cells[0] == eventHOTP:
			seed, err = l.traditional()
		case slices.ContainsFunc(otherEvents, func(event string) bool { return strings.HasPrefix(cells[0], event) }):
			continue
		default:
			seed, err = l.manager()
		}
		if err != nil {
			return err
		}
		if err := found.add(seed); err != nil {
			return err
		}
	}
}

type logLine struct {
	line  int
	cells []string
}

func (l logLine) wrong(field string, err error) error {
	return &Error{Line: l.line, Field: field, Err: err}
}

// traditional reads a line of the log. The slot, 1 or 2, is looked for, because the date is written as the person's own system does, with commas or without.
func (l logLine) traditional() (Seed, error) {
	slot := 2
	for slot < min(5, len(l.cells)) && l.cells[slot] != "1" && l.cells[slot] != "2" {
		slot++
	}
	const needed = 11 // from the slot to the moving factor
	if slot == 5 || len(l.cells) < slot+needed {
		return Seed{}, l.wrong("row", errors.New("is not as the Personalization Tool logs it: too few cells, or no slot"))
	}
	cells := l.cells[slot:]
	secret, err := unhex(cells[3])
	if err != nil {
		return Seed{}, l.wrong("secret", err)
	}
	if l.cells[0] == eventHOTP {
		return l.hotp(cells, secret)
	}
	privateID, err := unhex(cells[2])
	if err != nil {
		return Seed{}, l.wrong("private_id", err)
	}
	return Seed{Kind: KindYubikey, Serial: cells[1], PublicID: cells[1], PrivateID: privateID, Secret: secret, Line: l.line}, nil
}

func (l logLine) hotp(cells []string, secret []byte) (Seed, error) {
	if cells[1] == "" {
		return Seed{}, l.wrong("serial", errors.New("is missing, because the token has no id: write it as CSV, with a serial of your own"))
	}
	serial, err := tokenID(cells[1], cells[6] == "1", cells[7] == "1", cells[8] == "1")
	if err != nil {
		return Seed{}, l.wrong("serial", err)
	}
	digits, err := number(cells[9])
	if err != nil {
		return Seed{}, l.wrong("digits", err)
	}
	counter, err := number(cells[10])
	if err != nil {
		return Seed{}, l.wrong("counter", err)
	}
	return Seed{Kind: KindHOTP, Serial: serial, Secret: secret, Algorithm: "SHA1", Digits: int(digits), Counter: counter, Line: l.line}, nil
}

// tokenID returns the id as the token types it before each code (OATH Token Identifier Specification): its first byte, its first two or all of it
// in modhex and the rest in hexadecimal. The log has all of it in modhex.
func tokenID(id string, one, two, all bool) (string, error) {
	kept := 0
	switch {
	case all:
		kept = len(id)
	case one:
		kept = min(2, len(id))
	case two:
		kept = min(4, len(id))
	}
	if _, err := modhex(id); err != nil {
		return "", err
	}
	rest, err := modhex(id[kept:])
	if err != nil {
		return "", err
	}
	return id[:kept] + hex.EncodeToString(rest), nil
}

// manager reads a line that begins with the serial number. It is written for Yubico OTP; for other modes some tools write a line with the same
// number of cells that leaves out what otpost needs to know.
func (l logLine) manager() (Seed, error) {
	if len(l.cells) < 6 || l.cells[0] == "" || strings.Trim(l.cells[0], "0123456789") != "" {
		return Seed{}, l.wrong("row", errors.New("is neither of the log's lines nor one that begins with a serial number"))
	}
	s := Seed{Kind: KindYubikey, Serial: l.cells[0], PublicID: l.cells[1], Line: l.line}
	var err error
	if s.Secret, err = unhex(l.cells[3]); err != nil {
		return Seed{}, l.wrong("secret", err)
	}
	if len(s.Secret) != 16 {
		return Seed{}, l.wrong("row", errors.New("is not of a Yubico OTP, and does not tell the digits of another: use the traditional format or CSV"))
	}
	if s.PrivateID, err = unhex(l.cells[2]); err != nil {
		return Seed{}, l.wrong("private_id", err)
	}
	return s, nil
}
