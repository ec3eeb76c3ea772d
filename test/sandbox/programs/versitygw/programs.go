//go:build objectstore

// Package programs pins versitygw, the S3 server over a folder that the sandbox runs as its object
// store. It has no code of its own; the build tag keeps the program in go.mod without ever
// compiling this file.
package programs

import _ "github.com/versity/versitygw/cmd/versitygw"
