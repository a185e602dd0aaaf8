package route

import (
	"math"
	"testing"
)

// TestBeta holds what is drawn to the distribution's mean and variance.
func TestBeta(t *testing.T) {
	const n = 100_000
	for _, c := range []struct{ a, b float64 }{{0.5, 0.5}, {priorVerified, priorFailed}, {1, 1}, {0.5, 40}, {300, 700}, {9000, 500}} {
		var sum, squares float64
		from := source(7, "beta")
		for range n {
			x := beta(from, c.a, c.b)
			if !(x >= 0 && x <= 1) {
				t.Fatalf("Beta(%v, %v) drew %v", c.a, c.b, x)
			}
			sum += x
			squares += x * x
		}
		mean, variance := sum/n, squares/n-sum/n*sum/n
		wantMean := c.a / (c.a + c.b)
		wantVariance := c.a * c.b / ((c.a + c.b) * (c.a + c.b) * (c.a + c.b + 1))
		if off := math.Abs(mean-wantMean) / math.Sqrt(wantVariance/n); off > 4 {
			t.Errorf("Beta(%v, %v): mean %.5f, want %.5f: %.1f standard errors off", c.a, c.b, mean, wantMean, off)
		}
		if off := variance / wantVariance; off < 0.96 || off > 1.04 {
			t.Errorf("Beta(%v, %v): variance %.3g, want %.3g", c.a, c.b, variance, wantVariance)
		}
	}
}
