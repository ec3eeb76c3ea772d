package image

import (
	"fmt"
	"os/exec"
	"strings"
)

// User is an account in an image.
type User struct {
	Name string
	ID   int
	Home string
}

// Basics adds what programs expect of any root: folders and the accounts root and nobody, and the
// users given.
func Basics(l *Layer, users ...User) error {
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "run", "sys", "var"} {
		if err := l.Folder(dir, 0o755, 0); err != nil {
			return err
		}
	}
	for _, dir := range []string{"tmp", "var/tmp"} {
		if err := l.Folder(dir, 0o1777, 0); err != nil {
			return err
		}
	}
	passwd, group := "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n"
	users = append(users, User{Name: "nobody", ID: 65534, Home: "/nonexistent"})
	for _, u := range users {
		passwd += fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", u.Name, u.ID, u.ID, u.Home)
		group += fmt.Sprintf("%s:x:%d:\n", u.Name, u.ID)
	}
	if err := l.Text("etc/passwd", passwd, 0o644); err != nil {
		return err
	}
	if err := l.Text("etc/group", group, 0o644); err != nil {
		return err
	}
	return l.Text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644)
}

// Busybox adds the program and a link for each of its commands that the image does not have.
func Busybox(l *Layer, program string) error {
	out, err := exec.Command(program, "--list").Output() //nolint:noctx // prints names and ends
	if err != nil {
		return fmt.Errorf("%s --list: %w", program, err)
	}
	if err := l.Copy(program, "bin/busybox"); err != nil {
		return err
	}
	for _, name := range strings.Fields(string(out)) {
		if name == "busybox" {
			continue
		}
		if err := l.Link("bin/"+name, "busybox"); err != nil {
			return err
		}
	}
	return nil
}
