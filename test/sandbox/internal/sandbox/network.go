package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/godwit-io/godwit/test/sandbox/internal/address"
	"github.com/godwit-io/godwit/test/sandbox/internal/node"
)

// slotsDir tells which sandbox holds which slot: a file per slot with the sandbox's folder. It does
// not outlive the machine's run, as slots do not.
func slotsDir() string {
	if os.Geteuid() == 0 {
		return "/run/godwit-sandbox"
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("godwit-sandbox-%d", os.Geteuid()))
}

// claimSlot takes the slot that the sandbox has had before, or the first free one.
func (s Sandbox) claimSlot(st *state, known bool) error {
	if err := os.MkdirAll(slotsDir(), 0o755); err != nil {
		return err
	}
	if known {
		owner, err := s.claim(st.Slot)
		if err != nil {
			return err
		}
		if owner != s.Dir {
			return fmt.Errorf("the network %s (or its ports) of this sandbox is used by the one in %s: bring that down (sandbox down --dir %[2]s), or remove this one (sandbox down --purge)", st.Slot.Network(), owner)
		}
		return nil
	}
	for slot := address.Slot(0); slot < address.MaxSlots; slot++ {
		if overlap, err := inUse(slot); err != nil {
			return err
		} else if overlap != "" {
			continue
		}
		owner, err := s.claim(slot)
		if err != nil {
			return err
		}
		if owner == s.Dir {
			st.Slot = slot
			return nil
		}
	}
	return fmt.Errorf("all %d networks for sandboxes are in use; %s names their owners", address.MaxSlots, slotsDir())
}

// claim writes the sandbox into the slot's file unless there is one, and returns the owner.
func (s Sandbox) claim(slot address.Slot) (string, error) {
	file := slotFile(slot)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		b, err := os.ReadFile(file)
		return string(b), err
	}
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(s.Dir)
	return s.Dir, errors.Join(err, f.Close())
}

func slotFile(slot address.Slot) string { return filepath.Join(slotsDir(), strconv.Itoa(int(slot))) }

// inUse names an interface of the host that has an address in the slot's network.
func inUse(slot address.Slot) (string, error) {
	// Sandboxes of other users, of which slotsDir does not tell, are seen by their ports.
	probe, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", slot.LoopbackStorePort()))
	if err != nil {
		return "lo", nil //nolint:nilerr // taken is what was asked
	}
	if err := probe.Close(); err != nil {
		return "", err
	}
	links, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, l := range links {
		addrs, err := l.Addrs()
		if err != nil {
			return "", err
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && l.Name != slot.Bridge() && p.Overlaps(slot.Network()) {
				return l.Name, nil
			}
		}
	}
	return "", nil
}

// ensureBridge makes the bridge that all nodes of the sandbox hang on, and routes to their pods and
// Services.
func ensureBridge(ctx context.Context, st *state) error {
	if st.ControlPlane {
		return nil
	}
	bridge := st.Slot.Bridge()
	if !node.HasLink(bridge) {
		// A bridge without a MAC of its own takes its ports', and changes it as they come and go.
		b := st.Slot.Host().As4()
		mac := fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
		if err := node.IP(ctx, fmt.Sprintf("link add %s address %s type bridge", bridge, mac)); err != nil {
			return err
		}
	}
	lines := []string{
		fmt.Sprintf("addr replace %s dev %s", st.Slot.HostPrefix(), bridge),
		fmt.Sprintf("link set %s up", bridge),
	}
	for _, m := range st.Clusters {
		c := address.Cluster{Slot: st.Slot, Index: m.Index}
		lines = append(lines, fmt.Sprintf("route replace %s via %s dev %s", c.Services(), c.Node(0).IP(), bridge))
		for n := range m.Nodes {
			lines = append(lines, fmt.Sprintf("route replace %s via %s dev %s", c.Node(n).Pods(), c.Node(n).IP(), bridge))
		}
	}
	return node.IP(ctx, lines...)
}

func removeBridge(ctx context.Context, st *state) error {
	if bridge := st.Slot.Bridge(); !st.ControlPlane && node.HasLink(bridge) {
		if err := node.IP(ctx, "link del "+bridge); err != nil {
			return err
		}
	}
	if err := os.Remove(slotFile(st.Slot)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// raiseWatches raises the host's limit of inotify instances: a node uses some fifty, and they are
// counted for all of a user's namespaces together.
func raiseWatches() error {
	const file, wanted = "/proc/sys/fs/inotify/max_user_instances", 8192
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if have, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && have >= wanted {
		return nil
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(wanted)), 0); err != nil {
		return fmt.Errorf("raise fs.inotify.max_user_instances to %d: %w", wanted, err)
	}
	return nil
}
