package rpc

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// triesPerMinute is far more than a person with a token needs.
	triesPerMinute = 20
	limitWindow    = time.Minute
	// limitAddresses bounds memory. Once as many strangers called within one
	// window, new ones wait for the next.
	limitAddresses = 4096
)

// limiter counts tries per address in windows of a minute.
type limiter struct {
	mu    sync.Mutex
	tries map[string]*window
}

type window struct {
	start time.Time
	tries int
}

// allow counts one try and reports whether it may be made.
func (l *limiter) allow(address string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.tries[address]
	if w == nil || now.Sub(w.start) >= limitWindow {
		if w == nil && !l.room(now) {
			return false
		}
		w = &window{start: now}
		l.tries[address] = w
	}
	w.tries++
	return w.tries <= triesPerMinute
}

func (l *limiter) room(now time.Time) bool {
	if l.tries == nil {
		l.tries = map[string]*window{}
	}
	if len(l.tries) < limitAddresses {
		return true
	}
	for address, w := range l.tries {
		if now.Sub(w.start) >= limitWindow {
			delete(l.tries, address)
		}
	}
	return len(l.tries) < limitAddresses
}

// callerOf is what tries are counted by: an IPv4 address, or the /64 of an IPv6
// one, since whoever has one of these has them all.
func callerOf(addr net.Addr) string {
	if addr == nil {
		return ""
	}
	parsed, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return addr.String()
	}
	ip := parsed.Addr().Unmap()
	if ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return ip.String()
	}
	return prefix.String()
}
