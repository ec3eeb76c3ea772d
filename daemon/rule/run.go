package rule

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// ErrPodGone says that the pod of a task is not there any more, or is another
// one of the same name.
var ErrPodGone = errors.New("the pod is gone")

// Place is where a command runs.
type Place struct{ Namespace, Pod, UID, Container string }

// Shell runs programs in containers.
type Shell interface {
	// Run runs argv to its end and returns what it printed; an exit code other
	// than zero is an error. ErrPodGone if the pod is not there.
	Run(ctx context.Context, p Place, argv []string) (string, error)
}

// Runner carries tasks out.
type Runner struct {
	Shell Shell
	Now   func() time.Time
	// Limit is how long one task may take, its wait included; stork's is 15 minutes.
	Limit time.Duration
}

// The scripts keep a task's state in files of its container. They are handed
// their values as arguments, so that no command has to be quoted.
const (
	folder = "/tmp/.godwit-"

	// startScript: $1 folder, $2 command, $3 wait script.
	startScript = `mkdir -p "$1" || exit 90
mkdir "$1/started" 2>/dev/null || exit 0
printf '%s\n' "$3" >"$1/wait" || exit 90
(
trap '' HUP
sh -c "$2" </dev/null >"$1/out" 2>&1 &
echo $! >"$1/pid"
wait $!
echo $? >"$1/code.new"
mv "$1/code.new" "$1/code"
) </dev/null >/dev/null 2>&1 &`

	// waitScript: the folder and the limit in seconds are filled in.
	waitScript = `: >"%[1]s/waiting"
n=0
while [ ! -e "%[1]s/release" ]; do
if [ "$n" -ge %[2]d ]; then : >"%[1]s/expired"; exit 124; fi
n=$((n+1))
sleep 1
done`

	// pollScript: $1 folder. One word of state, then what the command printed last.
	pollScript = `if [ ! -d "$1/started" ]; then echo lost; exit 0; fi
if [ -e "$1/expired" ]; then echo expired
elif [ -e "$1/code" ]; then echo "ended $(cat "$1/code")"
elif [ -e "$1/waiting" ]; then echo waiting
else echo running; fi
[ ! -e "$1/out" ] || tail -c 300 "$1/out" 2>/dev/null || cat "$1/out"`

	// releaseScript: $1 folder.
	releaseScript = `[ ! -d "$1" ] || : >"$1/release"`

	// killScript: $1 folder.
	killScript = `: >"$1/release"; kill "$(cat "$1/pid")" 2>/dev/null; exit 0`

	// clearScript: $1 folder.
	clearScript = `rm -rf "$1"`
)

// Advance starts the tasks of the first step that is not through and looks how
// far they are. It changes the tasks in place; an error says that a container
// could not be asked, and may be tried again.
func (r Runner) Advance(ctx context.Context, tasks []api.RuleTask) error {
	step, open := openStep(tasks)
	if !open {
		return nil
	}
	for i := range tasks {
		t := &tasks[i]
		if t.Step != step || settled(*t) {
			continue
		}
		if err := r.advance(ctx, t); err != nil {
			return fmt.Errorf("command in pod %s/%s: %w", t.Namespace, t.Pod, err)
		}
	}
	return nil
}

// settled is true for a task that the next step need not wait for.
func settled(t api.RuleTask) bool {
	return t.State == api.RuleTaskDone || t.State == api.RuleTaskFailed || t.State == api.RuleTaskWaiting
}

func openStep(tasks []api.RuleTask) (int, bool) {
	for _, t := range tasks {
		if t.State == api.RuleTaskFailed {
			return 0, false
		}
	}
	for _, t := range tasks {
		if !settled(t) {
			return t.Step, true
		}
	}
	return 0, false
}

// Through says whether all tasks are where they shall be before the snapshots
// (or, after them, at their end), and which one failed, if one did.
func Through(tasks []api.RuleTask) (through bool, failed *api.RuleTask) {
	for i := range tasks {
		if tasks[i].State == api.RuleTaskFailed {
			return false, &tasks[i]
		}
	}
	_, open := openStep(tasks)
	return !open, nil
}

func (r Runner) advance(ctx context.Context, t *api.RuleTask) error {
	if t.State == api.RuleTaskPlanned || t.State == "" {
		command := strings.ReplaceAll(t.Command, waitWord, "sh "+folder+t.ID+"/wait")
		wait := fmt.Sprintf(waitScript, folder+t.ID, int(r.Limit/time.Second))
		if _, err := r.sh(ctx, t, startScript, command, wait); err != nil {
			return r.gone(t, err)
		}
		now := metav1.NewTime(r.Now())
		t.State, t.Started = api.RuleTaskStarted, &now
	}
	return r.look(ctx, t)
}

// look asks how far a started task is.
func (r Runner) look(ctx context.Context, t *api.RuleTask) error {
	out, err := r.sh(ctx, t, pollScript)
	if err != nil {
		return r.gone(t, err)
	}
	state, printed, _ := strings.Cut(out, "\n")
	printed = strings.TrimSpace(printed)
	word, code, _ := strings.Cut(strings.TrimSpace(state), " ")
	switch word {
	case "lost":
		fail(t, "the container was restarted while the command ran", "")
	case "expired":
		fail(t, fmt.Sprintf("nobody released its wait for %v, so it went on: what was snapshot meanwhile may not be consistent", r.Limit), printed)
	case "ended":
		ended(t, code, printed)
	case "waiting":
		if t.Background && t.State == api.RuleTaskStarted {
			t.State, t.Message = api.RuleTaskWaiting, printed
		}
	case "running":
		return r.overdue(ctx, t, printed)
	default:
		return fmt.Errorf("its container answers %q, which is no state: is its shell a POSIX one?", state)
	}
	return nil
}

func ended(t *api.RuleTask, code, printed string) {
	n, err := strconv.Atoi(code)
	switch {
	case err != nil:
		fail(t, fmt.Sprintf("its exit code reads %q", code), printed)
	case n != 0:
		fail(t, fmt.Sprintf("it ended with exit code %d", n), printed)
	case t.Background && t.State == api.RuleTaskStarted:
		fail(t, "it ended before the snapshots, without waiting at "+waitWord, printed)
	default:
		t.State, t.Message = api.RuleTaskDone, printed
	}
}

func fail(t *api.RuleTask, why, printed string) {
	if printed != "" {
		why += ": " + printed
	}
	t.State, t.Message = api.RuleTaskFailed, fmt.Sprintf("command in pod %s/%s: %s", t.Namespace, t.Pod, why)
}

// overdue ends a command that takes longer than it may.
func (r Runner) overdue(ctx context.Context, t *api.RuleTask, printed string) error {
	t.Message = printed
	if t.Started == nil || r.Now().Sub(t.Started.Time) < r.Limit {
		return nil
	}
	if _, err := r.sh(ctx, t, killScript); err != nil {
		return r.gone(t, err)
	}
	fail(t, fmt.Sprintf("it did not end within %v", r.Limit), printed)
	return nil
}

// Release lets the background tasks go on and sees all tasks end. It is through
// once none of them runs; one that had lost its hold before has failed. A
// container that cannot be asked does not keep the others from being released.
func (r Runner) Release(ctx context.Context, tasks []api.RuleTask) (through bool, err error) {
	through = true
	var failed []error
	for i := range tasks {
		t := &tasks[i]
		if err := r.release(ctx, t); err != nil {
			failed = append(failed, fmt.Errorf("release the command in pod %s/%s: %w", t.Namespace, t.Pod, err))
		}
		if t.State == api.RuleTaskWaiting || t.State == api.RuleTaskStarted {
			through = false
		}
	}
	return through && len(failed) == 0, errors.Join(failed...)
}

func (r Runner) release(ctx context.Context, t *api.RuleTask) error {
	if t.State == api.RuleTaskPlanned || t.State == "" {
		// It may run all the same: its start is recorded after it.
		if runs, err := r.runs(ctx, t); err != nil || !runs {
			return err
		}
		now := metav1.NewTime(r.Now())
		t.State, t.Started = api.RuleTaskStarted, &now
	}
	if t.State != api.RuleTaskWaiting && t.State != api.RuleTaskStarted {
		return nil
	}
	// A hold that was lost shows before the release, and only then.
	if err := r.look(ctx, t); err != nil || t.State == api.RuleTaskFailed || !t.Background {
		return err
	}
	if _, err := r.sh(ctx, t, releaseScript); err != nil {
		return r.gone(t, err)
	}
	return nil
}

// runs tells whether a task was started in its pod at all.
func (r Runner) runs(ctx context.Context, t *api.RuleTask) (bool, error) {
	out, err := r.sh(ctx, t, pollScript)
	if errors.Is(err, ErrPodGone) {
		return false, nil
	}
	return err == nil && !strings.HasPrefix(out, "lost"), err
}

// Clear removes what tasks left in their containers, once they have ended. Pods
// that are gone took it with them.
func (r Runner) Clear(ctx context.Context, tasks []api.RuleTask) error {
	for i := range tasks {
		t := &tasks[i]
		if t.State == api.RuleTaskPlanned || t.State == "" {
			continue
		}
		if _, err := r.sh(ctx, t, clearScript); err != nil && !errors.Is(err, ErrPodGone) {
			return fmt.Errorf("clear up after the command in pod %s/%s: %w", t.Namespace, t.Pod, err)
		}
	}
	return nil
}

func (r Runner) gone(t *api.RuleTask, err error) error {
	if errors.Is(err, ErrPodGone) {
		fail(t, "the pod was deleted or replaced meanwhile", "")
		return nil
	}
	return err
}

func (r Runner) sh(ctx context.Context, t *api.RuleTask, script string, args ...string) (string, error) {
	argv := append([]string{"sh", "-c", script, "godwit", folder + t.ID}, args...)
	return r.Shell.Run(ctx, Place{Namespace: t.Namespace, Pod: t.Pod, UID: t.PodUID, Container: t.Container}, argv)
}
