package pumping

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// A Range is a set of neighbouring numbers: those that differ in the last three digits alone. Bit n stands for one of them; hundreds stay together and
// in which order they and their numbers stand is nobody's business.
type Range [125]byte

// RangeSize is how many numbers a Range is of.
const RangeSize = 1000

// From how many numbers sent to on a neighbourhood is full enough to be no chance.
const (
	HundredFull  = 10
	ThousandFull = 30
)

// Add puts a number in and reports whether it was not there.
func (r *Range) Add(n int) bool {
	i, bit := n/8, byte(1)<<(n%8)
	if r[i]&bit != 0 {
		return false
	}
	r[i] |= bit
	return true
}

// Has reports whether a number is in.
func (r *Range) Has(n int) bool { return r[n/8]&(1<<(n%8)) != 0 }

// Or is what is in either.
func (r Range) Or(s Range) Range {
	for i := range r {
		r[i] |= s[i]
	}
	return r
}

// Empty reports whether nothing is in.
func (r *Range) Empty() bool { return *r == Range{} }

// Neighbours counts what is in: all, those in full hundreds, and those in a full thousand, which are all or none.
func (r *Range) Neighbours() (numbers, sequence, crowd int) {
	var hundreds [RangeSize / 100]int
	for i, b := range r {
		for b != 0 {
			hundreds[(8*i+bits.TrailingZeros8(b))/100]++
			b &= b - 1
		}
	}
	for _, n := range hundreds {
		numbers += n
		if n >= HundredFull {
			sequence += n
		}
	}
	if numbers >= ThousandFull {
		crowd = numbers
	}
	return numbers, sequence, crowd
}

// Pack writes the range in as few bytes as it takes: most have a number or two.
func (r *Range) Pack() []byte {
	n := 0
	for _, b := range r {
		n += bits.OnesCount8(b)
	}
	if 2*n >= len(r) {
		return r[:]
	}
	out := make([]byte, 0, 2*n)
	for i, b := range r {
		for b != 0 {
			out = binary.BigEndian.AppendUint16(out, uint16(8*i+bits.TrailingZeros8(b)))
			b &= b - 1
		}
	}
	return out
}

// Unpack reads what Pack wrote.
func Unpack(b []byte) (r Range, err error) {
	if len(b) == len(r) {
		copy(r[:], b)
		return r, nil
	}
	if len(b)%2 != 0 || len(b) > len(r) {
		return r, errors.New("a range of numbers has a length that none has")
	}
	for ; len(b) > 0; b = b[2:] {
		n := int(binary.BigEndian.Uint16(b))
		if n >= RangeSize {
			return r, errors.New("a range of numbers has a number that is not in it")
		}
		r.Add(n)
	}
	return r, nil
}

// Place is where a number stands in its range. Its last three digits are moved about by the range's keyed digest, so that who reads the table reads no digits
// from it; numbers of one hundred stay within one.
func Place(digest [32]byte, last int) int {
	last = ((last % RangeSize) + RangeSize) % RangeSize
	hundred := (last/100*tens[digest[16]%4] + int(digest[17])) % 10
	within := (last%100*hundreds[digest[18]%uint8(len(hundreds))] + int(digest[19])) % 100
	return 100*hundred + within
}

// What is prime to ten, and to a hundred: to multiply by it moves every number to another place.
var (
	tens     = [...]int{1, 3, 7, 9}
	hundreds = [...]int{1, 3, 7, 9, 11, 13, 17, 19, 21, 23, 27, 29, 31, 33, 37, 39, 41, 43, 47, 49, 51, 53, 57, 59, 61, 63, 67, 69, 71, 73, 77, 79}
)
