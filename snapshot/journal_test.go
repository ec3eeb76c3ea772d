package snapshot

import (
	"context"
	"testing"
)

// fixedJournal holds one entry.
type fixedJournal []byte

func (f fixedJournal) Load(context.Context) ([]byte, error) { return f, nil }

func (f fixedJournal) Save(context.Context, []byte) error { return nil }

func (f fixedJournal) Clear(context.Context) error { return nil }

// FuzzJournal reads any bytes as a journal: what is not of this very apply, or
// ends outside the volume, is told of and not used.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"format":1,"sink":"s","size":100,"from":"a","to":"b","done":50}`))
	f.Add([]byte(`{"format":1,"sink":"s","size":100,"from":"a","to":"b","done":101}`))
	f.Add([]byte(`{"format":1,"sink":"s","size":100,"from":"a","to":"b","done":-1}`))
	f.Add([]byte(`{"format":2,"sink":"s","size":100,"from":"a","to":"b","done":50}`))
	f.Add([]byte(`{"format":1,"sink":"other","size":100,"from":"a","to":"b","done":50}`))
	f.Add([]byte(`{"format":1`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		told := 0
		want := journalEntry{Format: journalFormat, Sink: "s", Size: 100, From: "a", To: "b"}
		j := &journaled{journal: fixedJournal(data), notice: func(string) { told++ }, entry: want}
		done, err := j.load(t.Context())
		if err != nil || done < 0 || done > want.Size {
			t.Fatalf("it goes on at %d, %v", done, err)
		}
		if done > 0 && told > 0 || told > 1 {
			t.Fatalf("it goes on at %d and told %d times that it does not", done, told)
		}
	})
}
