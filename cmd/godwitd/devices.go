package main

import (
	"io"

	"github.com/godwit-io/godwit/daemon/node"
	"github.com/godwit-io/godwit/snapshot/blockdev"
)

// devices opens this machine's devices and files for package node, which knows
// them by its own interfaces.
type devices struct{}

func (devices) OpenSource(path string) (node.Source, error) { return blockdev.OpenSource(path) }

func (devices) OpenSink(path string) (node.Sink, error) { return blockdev.OpenSink(path) }

func (devices) Filesystem(r io.ReaderAt) (string, error) { return blockdev.Filesystem(r) }
