package otposttest_test

import (
	"testing"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

func TestYubiKey(t *testing.T) {
	y := otposttest.NewYubiKey(t)
	last := int64(-1)
	for n := range 600 { // twice over the end of a session
		if n == 10 {
			y.PlugIn()
		}
		o, words := otp.ParseYubicoOTP(y.Press())
		if words != "" || o.PublicID != y.PublicID {
			t.Fatalf("press %d: public id %q: %s", n, o.PublicID, words)
		}
		token, err := o.Open(y.Key)
		if err != nil || token.PrivateID != y.PrivateID || token.Counter() <= last {
			t.Fatalf("press %d: %+v after counter %d, %v", n, token, last, err)
		}
		last = token.Counter()
	}
	if want := int64(4 << 8); last < want { // plugged in by hand once, and twice by the number of presses
		t.Errorf("the last counter is %#x", last)
	}
	if other, _ := otp.ParseYubicoOTP(otposttest.NewYubiKey(t).Press()); other.PublicID == y.PublicID {
		t.Error("two keys have one public id")
	}
}
