package keyring

import (
	"encoding/base64"
	"fmt"

	"github.com/google/uuid"
)

// What providers are given to name a delivery by when they tell of it. A provider, and whoever reads its logs or an address that it calls, learns from it
// neither the challenge nor anything that holds for another delivery.
const receiptLabel = "otpost/receipt/v1"

// receiptToken is how a token is written: it stands in addresses and in fields that take letters and digits only.
var receiptToken = base64.RawURLEncoding

// SealReceipt makes the token of a delivery: about 70 letters, digits, "-" and "_". Two tokens of one delivery are not alike, and both are good.
func (r *Ring) SealReceipt(challenge uuid.UUID, number int) (string, error) {
	if number < 0 || number > 255 {
		return "", fmt.Errorf("keyring: delivery %d has no token", number)
	}
	sealed, err := r.Seal(Receipt, append(challenge[:len(challenge):len(challenge)], byte(number)), []byte(receiptLabel))
	if err != nil {
		return "", err
	}
	return receiptToken.EncodeToString(sealed), nil
}

// OpenReceipt returns the delivery that a token names. It returns [ErrOpen] for what SealReceipt has not made, or whose key has been removed.
func (r *Ring) OpenReceipt(token string) (challenge uuid.UUID, number int, err error) {
	sealed, err := receiptToken.DecodeString(token)
	if err != nil {
		return uuid.Nil, 0, fmt.Errorf("keyring: receipt token: %w", ErrOpen)
	}
	plain, err := r.Open(Receipt, sealed, []byte(receiptLabel))
	if err != nil {
		return uuid.Nil, 0, err
	}
	if len(plain) != len(challenge)+1 {
		return uuid.Nil, 0, fmt.Errorf("keyring: receipt token: %w", ErrOpen)
	}
	return uuid.UUID(plain[:16]), int(plain[16]), nil
}
