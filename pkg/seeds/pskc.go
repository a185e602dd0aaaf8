package seeds

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// namespaces are those of the elements that matter, and the prefix that this package has for each; its own are of RFC 6030 and of the drafts before it.
var namespaces = map[string]string{
	"urn:ietf:params:xml:ns:keyprov:pskc":     "",
	"urn:ietf:params:xml:ns:keyprov:pskc:1.0": "",
	"http://www.w3.org/2000/09/xmldsig#":      "ds:",
	"http://www.w3.org/2001/04/xmlenc#":       "xenc:",
	"http://www.w3.org/2009/xmlenc11#":        "xenc11:",
}

// name names an element by its namespace's prefix; one of another namespace gets a name that no handler has.
func name(n xml.Name) string {
	prefix, ok := namespaces[n.Space]
	if !ok {
		return "other:" + n.Local
	}
	return prefix + n.Local
}

// A container reads a KeyContainer.
type container struct {
	*walker
	o     Options
	found *found
	keys  keys
	count int // of the keys, whether or not they hold a seed
}

// readPSKC reads a Portable Symmetric Key Container (RFC 6030): keys in plain text, or encrypted by AES in CBC mode with a pre-shared key
// (section 6.1) or a passphrase (section 6.2) and authenticated by an HMAC. Not supported, and refused: keys encrypted for a certificate, wrapped keys,
// and keys to be derived from a master key. A signature over the file is not checked, and a MAC binds no value to its serial number: whoever imports a file
// has to know where it is from.
func readPSKC(in *meter, o Options, found *found) error {
	c := &container{walker: newWalker(in), o: o, found: found}
	root := false
	for {
		token, err := c.next()
		if errors.Is(err, io.EOF) && root {
			return nil
		} else if errors.Is(err, io.EOF) {
			return errors.New("the file is empty")
		} else if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.CharData:
			if strings.TrimSpace(string(token)) != "" {
				return c.wrong("file", errors.New("has text outside its elements"))
			}
		case xml.StartElement:
			if root || name(token.Name) != "KeyContainer" {
				return c.wrong("file", errors.New("must be one KeyContainer of RFC 6030"))
			}
			root = true
			if err := c.read(token); err != nil {
				return err
			}
		}
	}
}

func (c *container) read(tag xml.StartElement) error {
	version, err := c.attr(tag, "Version")
	if err != nil {
		return err
	}
	if version != "1.0" { // RFC 6030, section 4.1
		return c.wrong("Version", errors.New("must be 1.0"))
	}
	return c.children(name, map[string]handler{
		"EncryptionKey": c.encryptionKey,
		"MACMethod":     c.macMethod,
		"KeyPackage*":   c.keyPackage,
		"Device*":       c.keyPackage, // as the drafts called it
	})
}

// encryptionKey takes the key from the options, as it is or derived as the file says. It comes before all that is encrypted, which has it open.
func (c *container) encryptionKey(xml.StartElement) error {
	if c.count > 0 {
		return c.wrong("EncryptionKey", errors.New("must come before the keys"))
	}
	named := false
	refuse := func(xml.StartElement) error {
		return c.wrong("EncryptionKey", errors.New("must be a pre-shared key or one derived from a passphrase; certificates and wrapped keys are not supported"))
	}
	err := c.children(name, map[string]handler{
		"ds:KeyName": func(xml.StartElement) error {
			named = true
			return c.skip()
		},
		"xenc11:DerivedKey": c.derivedKey,
		"":                  refuse,
	})
	if err != nil || c.keys.encryption != nil {
		return err
	}
	if !named {
		return refuse(xml.StartElement{})
	}
	return c.preShared()
}

func (c *container) preShared() error {
	if c.o.Key == nil {
		return c.wrong("file", ErrKeyNeeded)
	}
	if n := len(c.o.Key); n != 16 && n != 24 && n != 32 {
		return c.wrong("file", fmt.Errorf("needs a pre-shared key of 16, 24 or 32 bytes, not %d", n))
	}
	c.keys.encryption = c.o.Key
	return nil
}

// derivedKey reads xenc11:DerivedKey of RFC 6030, section 6.2, whose own example has the innermost elements in no namespace.
func (c *container) derivedKey(xml.StartElement) error {
	var d derivation
	integer := func(field string, to *int64) handler {
		return func(xml.StartElement) error {
			text, err := c.text(field)
			if err != nil {
				return err
			}
			if *to, err = number(text); err != nil {
				return c.wrong(field, err)
			}
			return nil
		}
	}
	salt := func(xml.StartElement) error {
		text, err := c.text("Salt")
		if err != nil {
			return err
		}
		if d.salt, err = unbase64(text); err != nil {
			return c.wrong("Salt", err)
		}
		return nil
	}
	prf := func(tag xml.StartElement) error {
		algorithm, err := c.attr(tag, "Algorithm")
		if err != nil {
			return err
		}
		text, err := c.text("PRF") // where some write it
		if err != nil {
			return err
		}
		if algorithm = firstOf(algorithm, text); algorithm != "" {
			if d.hash = hmacs[algorithm]; d.hash == nil {
				return c.wrong("PRF", errors.New("must be HMAC-SHA1 or HMAC-SHA256"))
			}
		}
		return nil
	}
	d.hash = hmacs["http://www.w3.org/2000/09/xmldsig#hmac-sha1"] // what an empty PRF stands for (RFC 8018, appendix A.2)
	err := c.children(name, map[string]handler{
		"xenc11:KeyDerivationMethod": func(tag xml.StartElement) error {
			algorithm, err := c.attr(tag, "Algorithm")
			if err != nil {
				return err
			}
			if !strings.HasSuffix(algorithm, "#pbkdf2") {
				return c.wrong("KeyDerivationMethod", errors.New("must be PBKDF2"))
			}
			return c.children(local, map[string]handler{
				"PBKDF2-params": func(xml.StartElement) error {
					return c.children(local, map[string]handler{
						"Salt":           func(xml.StartElement) error { return c.children(local, map[string]handler{"Specified": salt}) },
						"IterationCount": integer("IterationCount", &d.iterations),
						"KeyLength":      integer("KeyLength", &d.length),
						"PRF":            prf,
					})
				},
			})
		},
	})
	if err != nil {
		return err
	}
	if c.o.Passphrase == "" {
		return c.wrong("file", ErrPassphraseNeeded)
	}
	if c.keys.encryption, err = d.key(c.o.Passphrase); err != nil {
		return c.wrong("DerivedKey", err)
	}
	return nil
}

// macMethod reads how values are authenticated. Its key is random and encrypted; where there is none, the key of encryption serves, as in older drafts.
func (c *container) macMethod(tag xml.StartElement) error {
	algorithm, err := c.attr(tag, "Algorithm")
	if err != nil {
		return err
	}
	if c.keys.hash = hmacs[algorithm]; c.keys.hash == nil {
		return c.wrong("MACMethod", errors.New("must be HMAC-SHA1 or HMAC-SHA256"))
	}
	if c.keys.encryption == nil { // EncryptionKey may be left out where both sides know which key it is
		if err := c.preShared(); err != nil {
			return err
		}
	}
	c.keys.mac = c.keys.encryption
	return c.children(name, map[string]handler{
		"MACKey": func(xml.StartElement) error {
			e, err := c.encrypted("MACKey")
			if err != nil {
				return err
			}
			if c.keys.mac, err = e.open(c.keys.encryption); err != nil {
				return c.wrong("MACKey", err)
			}
			return nil
		},
		"MACKeyReference": func(xml.StartElement) error { return c.wrong("MACKeyReference", errors.New("is not supported")) },
	})
}

// encrypted reads what is of xenc:EncryptedDataType.
func (c *container) encrypted(field string) (encrypted, error) {
	var e encrypted
	err := c.children(name, map[string]handler{
		"xenc:EncryptionMethod": func(tag xml.StartElement) (err error) {
			if e.method, err = c.attr(tag, "Algorithm"); err != nil {
				return err
			}
			return c.skip()
		},
		"xenc:CipherData": func(xml.StartElement) error {
			return c.children(name, map[string]handler{
				"xenc:CipherValue": func(xml.StartElement) error {
					text, err := c.text(field)
					if err != nil {
						return err
					}
					if e.data, err = unbase64(text); err != nil {
						return c.wrong(field, err)
					}
					return nil
				},
			})
		},
	})
	return e, err
}
