package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// What Traefik alone took for a GET on the machine for which the bound of the way to
// the daemon and back was set.
const (
	referenceLow  = 49 * time.Microsecond
	referenceHigh = 61 * time.Microsecond
)

// roundTrip returns the CPU time of a message of the size of a question and a short
// answer over a Unix socket, of both ends, over as many connections as the requests
// have: what no way to a daemon can do without. Both ends are in this process.
func roundTrip(dir string) (time.Duration, error) {
	l, err := net.Listen("unix", filepath.Join(dir, "calibrate"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go echo(c)
		}
	}()
	before, err := ownTime()
	if err != nil {
		return 0, err
	}
	var wg sync.WaitGroup
	faults := make([]error, *conns)
	each := *number / *conns
	for i := range faults {
		wg.Go(func() { faults[i] = ping(l.Addr().String(), each) })
	}
	wg.Wait()
	after, err := ownTime()
	return (after - before) / time.Duration(max(each**conns, 1)), errors.Join(append(faults, err)...)
}

const messageSize, answerSize = 512, 48

// echo answers messages until the connection ends.
func echo(c net.Conn) {
	defer func() { _ = c.Close() }()
	buffer := make([]byte, messageSize)
	for {
		if _, err := io.ReadFull(c, buffer); err != nil {
			return
		}
		if _, err := c.Write(buffer[:answerSize]); err != nil {
			return
		}
	}
}

func ping(path string, n int) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	buffer := make([]byte, messageSize)
	for range n {
		if _, err := c.Write(buffer); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, buffer[:answerSize]); err != nil {
			return err
		}
	}
	return nil
}

// ownTime returns the CPU time of this process.
func ownTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// calibration says how the machine compares.
func calibration(trip time.Duration, alone cost) string {
	sum := alone.sum()
	return fmt.Sprintf("This machine: a bare round trip over a Unix socket takes %v, both ends; Traefik alone takes %v, and took %v to %v where the bound was set: %.1f to %.1f times as much.",
		trip.Round(100*time.Nanosecond), sum.Round(100*time.Nanosecond), referenceLow, referenceHigh, float64(sum)/float64(referenceHigh), float64(sum)/float64(referenceLow))
}
