package snapshottest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
)

// testFaults fails each call to a device and to a store in turn, in each way
// that there is: what went wrong is told, and what is said to be done is done.
func testFaults(t *testing.T, s snapshot.Store) {
	data := noise(12*testChunk+100, 41)
	// Holes, for several runs of chunks that follow each other.
	for _, hole := range []int{3, 4, 5, 8, 10} {
		clear(data[hole*testChunk : (hole+1)*testChunk])
	}
	before, _ := mustBackup(t, scan(noise(len(data), 42), "v"), s)
	image, _ := mustBackup(t, scan(data, "v"), s)
	dirty := noise(len(data), 42)
	runs := map[string]func(sink snapshot.Sink, s snapshot.Store) error{
		"apply": func(sink snapshot.Sink, s snapshot.Store) error {
			_, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: image.ID, From: before.ID, Verify: snapshot.VerifyReadBack}, s)
			return err
		},
		"restore": func(sink snapshot.Sink, s snapshot.Store) error {
			_, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{
				Sink: sink, To: image.ID, Verify: snapshot.VerifyFull, Journal: &Journal{}, SinkID: "sink", Notice: func(string) {},
			}, s)
			return err
		},
		"reconcile": func(sink snapshot.Sink, s snapshot.Store) error {
			_, err := snapshot.Reconcile(t.Context(), snapshot.ReconcileRequest{Sink: sink, To: image.ID, Verify: snapshot.VerifyFull}, s)
			return err
		},
	}
	for name, run := range runs {
		for _, fault := range Faults() {
			t.Run(fmt.Sprintf("%s %s", name, fault), func(t *testing.T) {
				struck := 0
				for n := 1; ; n++ {
					device := NewDevice(bytes.Clone(dirty))
					sink := &FaultySink{Sink: device, Fault: fault, N: n}
					err := run(sink, s)
					if sink.Struck() {
						struck++
					}
					if err == nil && !bytes.Equal(device.data, data) {
						t.Fatalf("the fault of call %d was not noticed", n)
					}
					if err == nil && sink.Struck() && (fault == FaultEIO || fault == FaultENOSPC) {
						t.Fatalf("the error of call %d was swallowed", n)
					}
					if err != nil && !sink.Struck() {
						t.Fatal(err)
					}
					if sink.calls < n {
						break
					}
				}
				if struck == 0 {
					t.Error("the fault never came")
				}
			})
		}
		t.Run(name+" of what cannot be read", func(t *testing.T) {
			for n := int64(1); ; n++ {
				device := NewDevice(bytes.Clone(dirty))
				err := run(device, UnreadableStore{s, &Countdown{N: n}})
				if err == nil {
					if n < 10 || !bytes.Equal(device.data, data) {
						t.Errorf("it was done after %d reads", n)
					}
					return
				}
				if !errors.Is(err, ErrInjected) {
					t.Fatalf("read %d: %v", n, err)
				}
			}
		})
	}
}
