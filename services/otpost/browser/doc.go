// Package browser holds the tests of the pages in a real browser: Chromium opens the demo shop of an `otpost up` that runs as a process of its own, and
// people sign up, prove who they are, lose their phones and get back in. There is nothing in it but tests.
package browser
