package rpc

import (
	"net"

	"google.golang.org/grpc/credentials"
)

// telling logs why a connection was refused before any call came in, which
// grpc itself keeps to itself.
type telling struct {
	credentials.TransportCredentials
	server *Server
}

// ServerHandshake is credentials.TransportCredentials'.
func (t telling) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := t.TransportCredentials.ServerHandshake(conn)
	from := callerOf(conn.RemoteAddr())
	// Whoever connects and goes away again, as health checks of load balancers
	// do, is not worth a line each time.
	if err != nil && t.server.tellings.allow(from, t.server.issuer.Now()) {
		t.server.log.Warn("connection refused", "from", from, "reason", err.Error())
	}
	return secured, info, err
}

// Clone is credentials.TransportCredentials'.
func (t telling) Clone() credentials.TransportCredentials {
	return telling{t.TransportCredentials.Clone(), t.server}
}
