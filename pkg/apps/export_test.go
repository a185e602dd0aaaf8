package apps

import "time"

// SetNow gives the cache another clock.
func (c *Cache) SetNow(now func() time.Time) { c.now = now }
