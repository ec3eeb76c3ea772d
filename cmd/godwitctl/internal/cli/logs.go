package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// godwitPods are the pods of Godwit's processes.
const godwitPods = "app.kubernetes.io/name=godwit"

// mostLog is what is read of one container.
const mostLog = 64 << 20

func newLogs(s *session) *cobra.Command {
	logs := &cobra.Command{
		Use: "logs", Short: "Show what Godwit's processes say of an object", Args: cobra.ArbitraryArgs,
		RunE: group("a kind", "migration"),
	}
	var second secondCluster
	migration := &cobra.Command{
		Use: "migration NAME", Aliases: []string{"migrations"},
		Short: "Show what all of Godwit's processes say of a Migration, in time",
		Long: `Show what all of Godwit's processes, those of the target too if it is named, say
of a Migration, with its events and the logs of its hooks, merged in time.

Example:
  ` + s.program + ` logs migration move -n shop --target-context west`,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := exactlyOne("migration", args)
			if err != nil {
				return err
			}
			return s.showLogs(cmd.Context(), name, second)
		},
	}
	second.add(migration)
	logs.AddCommand(migration)
	return logs
}

// logLine is one line of a log, or one event.
type logLine struct {
	at          time.Time
	where, text string
}

func (s *session) showLogs(ctx context.Context, name string, second secondCluster) error {
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	var m api.Migration
	if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &m); missing(err) {
		return s.notThere(ctx, c, migrationKind(), namespace, name)
	} else if err != nil {
		return s.fail(fmt.Sprintf("read Migration %s in namespace %s", name, namespace), err)
	}
	sites := s.sites(second)
	lines := hookLines(&m)
	for _, p := range sites {
		found, err := p.linesOf(ctx, &m)
		if err != nil {
			return err
		}
		lines = append(lines, found...)
	}
	slices.SortStableFunc(lines, func(a, b logLine) int { return a.at.Compare(b.at) })
	for _, l := range lines {
		if err := s.out("%s %s %s", l.at.UTC().Format("2006-01-02T15:04:05.000Z"), l.where, l.text); err != nil {
			return err
		}
	}
	if len(sites) == 1 {
		return s.hint("this is what the source says: name the target with --target-context to see both")
	}
	return nil
}

// linesOf are the lines of one cluster.
func (p site) linesOf(ctx context.Context, m *api.Migration) ([]logLine, error) {
	k, _, err := p.kubernetes()
	if err != nil {
		return nil, err
	}
	pods, err := k.CoreV1().Pods(p.home).List(ctx, metav1.ListOptions{LabelSelector: godwitPods})
	if err != nil {
		return nil, p.fail(fmt.Sprintf("list the pods of namespace %s on the %s", p.home, p.role), err)
	}
	if len(pods.Items) == 0 {
		return nil, fmt.Errorf("the %s has no pod of Godwit in namespace %s: say its namespace with --godwit-namespace", p.role, p.home)
	}
	speaks := speaksOf(m)
	var lines []logLine
	for i := range pods.Items {
		err := eachLog(ctx, k, &pods.Items[i], &m.CreationTimestamp, func(l containerLog) {
			lines = append(lines, l.lines(p.role, speaks)...)
		})
		if err != nil {
			return nil, p.fail("read logs on the "+p.role, err)
		}
	}
	if p.role == "source" {
		events, err := p.eventLines(ctx, k, m)
		if err != nil {
			return nil, err
		}
		lines = append(lines, events...)
	}
	return lines, nil
}

// containerLog is what one container wrote, in this life or the one before.
type containerLog struct {
	pod, container string
	previous       bool
	text           []byte
}

// eachLog reads the logs of a pod's containers, those of before a restart too.
// What a container has not written yet is no error.
func eachLog(ctx context.Context, k kubernetes.Interface, pod *corev1.Pod, since *metav1.Time, take func(containerLog)) error {
	for _, c := range pod.Status.ContainerStatuses {
		for _, previous := range []bool{true, false} {
			if previous && c.RestartCount == 0 || !previous && c.State.Waiting != nil {
				continue
			}
			limit := int64(mostLog)
			text, err := k.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{
				Container: c.Name, Previous: previous, SinceTime: since, Timestamps: true, LimitBytes: &limit,
			}).DoRaw(ctx)
			if previous && err != nil && ctx.Err() == nil {
				continue // The kubelet keeps the log of before a restart as long as it likes.
			}
			if err != nil {
				return fmt.Errorf("pod %s, container %s: %w", pod.Name, c.Name, err)
			}
			take(containerLog{pod: pod.Name, container: c.Name, previous: previous, text: text})
		}
	}
	return nil
}

func (l containerLog) lines(role string, speaks func(string) bool) []logLine {
	var lines []logLine
	scanner := bufio.NewScanner(bytes.NewReader(l.text))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		stamp, text, _ := strings.Cut(scanner.Text(), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err == nil && speaks(text) {
			lines = append(lines, logLine{at: at, where: role + " " + l.pod, text: text})
		}
	}
	return lines
}

// speaksOf tells lines that are about the Migration: by its uid, its round, its
// name, and the names of what was made for it.
func speaksOf(m *api.Migration) func(string) bool {
	short, _, _ := strings.Cut(string(m.UID), "-")
	words := []string{string(m.UID), "godwit-" + short + "-", m.Namespace + "/" + m.Name + `"`}
	if m.Status.Round != "" {
		words = append(words, m.Status.Round)
	}
	if app := m.Status.Application; app != "" {
		words = append(words, `"`+app+`"`, `"`+strings.ReplaceAll(app, "/", "-")+"-")
	}
	name, namespace := fmt.Sprintf(`"name":%q`, m.Name), fmt.Sprintf(`"namespace":%q`, m.Namespace)
	return func(line string) bool {
		if strings.Contains(line, name) && strings.Contains(line, namespace) {
			return true
		}
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) })
	}
}

func (p site) eventLines(ctx context.Context, k kubernetes.Interface, m *api.Migration) ([]logLine, error) {
	events, err := k.CoreV1().Events(m.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("involvedObject.uid", string(m.UID)).String(),
	})
	if err != nil {
		return nil, p.fail("list the events of namespace "+m.Namespace, err)
	}
	var lines []logLine
	for _, e := range events.Items {
		at := cmp.Or(e.EventTime.Time, e.LastTimestamp.Time, e.CreationTimestamp.Time)
		lines = append(lines, logLine{at: at, where: p.role + " event", text: e.Type + " " + e.Reason + ": " + e.Message})
	}
	return lines, nil
}

// hookLines are the logs that are kept in the status.
func hookLines(m *api.Migration) []logLine {
	var lines []logLine
	for _, h := range m.Status.Hooks {
		at := h.Finished
		if at == nil {
			at = h.Started
		}
		if at == nil || h.Log == "" {
			continue
		}
		for line := range strings.Lines(h.Log) {
			lines = append(lines, logLine{at: at.Time, where: strings.ToLower(string(h.Cluster)) + " hook " + h.Name, text: strings.TrimSpace(line)})
		}
	}
	return lines
}
