// Package embedded provides the servers otpost can run for itself, so that one command brings up a whole system and every test has real
// servers below it.
//
// They are the real ones, private to whoever started them: they keep their data in a directory that one process holds at a time, end when
// that process ends, and start again from whatever a killed one left behind.
package embedded
