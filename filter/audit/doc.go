// Package audit writes what was refused, and what a detecting rule would have
// refused, as JSON lines.
//
//	request goroutine: Observe -> encode -> bounded queue
//	writer goroutine:  bounded queue -> sink, with retries
//
// A request never waits for the sink. A line that finds the queue full is
// dropped and counted, and the file says how many are missing once there is room
// again. A line holds no payload, no header value and no query unless the
// options ask for them.
package audit
