package target

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/daemon/workload"
)

const (
	// labelJournal is on the Secrets of a Standby's journal.
	labelJournal = "godwit.io/journal"
	// journalEntry bounds an entry before it is compressed, well below what the
	// API server takes.
	journalEntry = 2 << 20
	// journalEntries are joined where rounds have made more.
	journalEntries = 64
	// journalLimit is what is left for an entry, compressed.
	journalLimit = 1000 << 10
)

// journal keeps how to undo what was done for a Standby: one Secret an entry,
// since what they put back may be one. Entries are numbered in order, and never
// changed but to add what stood there after the write.
type journal struct {
	x *run

	mu   sync.Mutex
	next int
	// known are objects with a record. The first record wins: when objects are
	// applied again after a crash, what was there before is only in it.
	known map[workload.Ref]bool
}

var _ workload.Journal = (*journal)(nil)

// openJournal reads which objects have a record already.
func (x *run) openJournal(ctx context.Context) (*journal, error) {
	entries, err := x.entries(ctx)
	if err != nil {
		return nil, err
	}
	j := &journal{x: x, known: make(map[workload.Ref]bool)}
	for _, e := range entries {
		j.next = max(j.next, e.number+1)
		for _, applied := range e.applied {
			j.known[plainRef(applied.Ref)] = true
		}
	}
	if len(entries) > journalEntries {
		err = j.join(ctx, entries)
	}
	return j, err
}

// join writes the journal of many rounds as one. The old entries go latest first,
// so that the first record of an object is its first at any moment.
func (j *journal) join(ctx context.Context, entries []journalled) error {
	if err := j.write(ctx, merged(entries)); err != nil {
		return err
	}
	return j.x.drop(ctx, entries)
}

// plainRef leaves the version aside: it is the same object in all of them.
func plainRef(ref workload.Ref) workload.Ref {
	ref.Version = ""
	return ref
}

// Intend is workload.Journal's.
func (j *journal) Intend(ctx context.Context, intents []workload.Applied) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var fresh []workload.Applied
	for _, intent := range intents {
		if !j.known[plainRef(intent.Ref)] {
			fresh = append(fresh, intent)
		}
	}
	if err := j.write(ctx, fresh); err != nil {
		return err
	}
	for _, intent := range fresh {
		j.known[plainRef(intent.Ref)] = true
	}
	return nil
}

// Done is workload.Journal's. It adds what stands there now to the record of the
// first write; that record is still the one to undo.
func (j *journal) Done(ctx context.Context, done []workload.Applied) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.write(ctx, done)
}

// write splits what is too large for one Secret.
func (j *journal) write(ctx context.Context, records []workload.Applied) error {
	var entry []workload.Applied
	size := 0
	for _, record := range records {
		data, err := json.Marshal(record)
		if err != nil {
			return fmt.Errorf("keep how to undo %s: %w", record.Ref, err)
		}
		if size+len(data) > journalEntry && len(entry) > 0 {
			if err := j.writeEntry(ctx, entry); err != nil {
				return err
			}
			entry, size = nil, 0
		}
		entry, size = append(entry, record), size+len(data)
	}
	if len(entry) == 0 {
		return nil
	}
	return j.writeEntry(ctx, entry)
}

func (j *journal) writeEntry(ctx context.Context, records []workload.Applied) error {
	data, err := json.Marshal(records)
	if err == nil {
		data, err = workload.Compress(data)
	}
	if err != nil {
		return fmt.Errorf("keep how to undo Standby %s: %w", j.x.s.Name, err)
	}
	if len(data) > journalLimit && len(records) > 1 {
		half := len(records) / 2
		if err := j.writeEntry(ctx, records[:half]); err != nil {
			return err
		}
		return j.writeEntry(ctx, records[half:])
	}
	labels := j.x.labels()
	labels[labelJournal] = j.x.s.Name
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: j.x.Namespace, Name: fmt.Sprintf("undo-%s-%d", j.x.s.Name, j.next), Labels: labels,
			Annotations: map[string]string{labelJournal: strconv.Itoa(j.next)},
		},
		Data: map[string][]byte{"applied.json.gz": data},
	}
	if err := j.x.Client.Create(ctx, s); err != nil {
		return fmt.Errorf("keep how to undo Standby %s: %w", j.x.s.Name, err)
	}
	j.next++
	return nil
}

type journalled struct {
	number  int
	secret  string
	applied []workload.Applied
}

// entries reads the whole journal in order.
func (x *run) entries(ctx context.Context) ([]journalled, error) {
	var secrets corev1.SecretList
	if err := x.Live.List(ctx, &secrets, client.InNamespace(x.Namespace), client.MatchingLabels{labelJournal: x.s.Name, labelOwner: string(x.s.UID)}); err != nil {
		return nil, fmt.Errorf("read how to undo Standby %s: %w", x.s.Name, err)
	}
	out := make([]journalled, 0, len(secrets.Items))
	for _, s := range secrets.Items {
		entry := journalled{secret: s.Name}
		var err error
		if entry.number, err = strconv.Atoi(s.Annotations[labelJournal]); err != nil {
			return nil, fmt.Errorf("read how to undo Standby %s: Secret %s was changed: %w", x.s.Name, s.Name, err)
		}
		data, err := workload.Expand(s.Data["applied.json.gz"])
		if err == nil {
			err = json.Unmarshal(data, &entry.applied)
		}
		if err != nil {
			return nil, fmt.Errorf("read how to undo Standby %s: Secret %s was changed: %w", x.s.Name, s.Name, err)
		}
		out = append(out, entry)
	}
	slices.SortFunc(out, func(a, b journalled) int { return a.number - b.number })
	return out, nil
}

// loadUndo gives one record an object, in the order of the first writes.
func (x *run) loadUndo(ctx context.Context) ([]workload.Applied, error) {
	entries, err := x.entries(ctx)
	return merged(entries), err
}

func merged(entries []journalled) []workload.Applied {
	var records []workload.Applied
	at := make(map[workload.Ref]int)
	for _, e := range entries {
		for _, applied := range e.applied {
			i, seen := at[plainRef(applied.Ref)]
			if !seen {
				at[plainRef(applied.Ref)] = len(records)
				records = append(records, applied)
				continue
			}
			if applied.After != nil {
				records[i].After = applied.After
			}
		}
	}
	return records
}

func (x *run) deleteUndo(ctx context.Context) error {
	entries, err := x.entries(ctx)
	if err != nil {
		return err
	}
	return x.drop(ctx, entries)
}

// drop deletes entries, the latest first, so that a drop that was cut short leaves
// a whole beginning.
func (x *run) drop(ctx context.Context, entries []journalled) error {
	for _, e := range slices.Backward(entries) {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: x.Namespace, Name: e.secret}}
		if err := x.Client.Delete(ctx, s); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete how to undo Standby %s: %w", x.s.Name, err)
		}
	}
	return nil
}
