package rpc

import (
	"time"

	"github.com/godwit-io/godwit/daemon/migrate"
	godwitv1 "github.com/godwit-io/godwit/proto/godwit/v1"
)

func hookTo(h migrate.Hook) *godwitv1.HookJob {
	return &godwitv1.HookJob{
		Name: h.Name, Phase: string(h.Phase), Namespace: h.Namespace, ServiceAccount: h.ServiceAccount,
		Image: h.Image, Command: h.Command, Args: h.Args, Files: h.Files,
		BackoffLimit: h.BackoffLimit, DeadlineSeconds: int64(h.Deadline / time.Second), User: userTo(h.User),
	}
}

func hookFrom(h *godwitv1.HookJob) migrate.Hook {
	return migrate.Hook{
		Name: h.GetName(), Phase: migrate.HookPhase(h.GetPhase()), Namespace: h.GetNamespace(), ServiceAccount: h.GetServiceAccount(),
		Image: h.GetImage(), Command: h.GetCommand(), Args: h.GetArgs(), Files: h.GetFiles(),
		BackoffLimit: h.GetBackoffLimit(), Deadline: time.Duration(h.GetDeadlineSeconds()) * time.Second, User: userFrom(h.GetUser()),
	}
}

func hookRequest(h migrate.Hook) *godwitv1.HookRequest {
	r := &godwitv1.HookRequest{
		Application: h.Application, Round: h.Round, Namespaces: h.Namespaces, Started: h.Started, Drop: h.Drop,
	}
	if h.User == nil {
		r.Job = hookTo(h)
	} else {
		r.JobWithUser = hookTo(h)
	}
	return r
}

func userTo(u *migrate.HookUser) *godwitv1.HookUser {
	if u == nil {
		return nil
	}
	return &godwitv1.HookUser{User: u.User, Group: u.Group, FsGroup: u.FSGroup}
}

func userFrom(u *godwitv1.HookUser) *migrate.HookUser {
	if u == nil {
		return nil
	}
	return &migrate.HookUser{User: u.User, Group: u.Group, FSGroup: u.FsGroup}
}

func hooksTo(hooks []migrate.Hook) []*godwitv1.HookJob {
	var out []*godwitv1.HookJob
	for _, h := range hooks {
		out = append(out, hookTo(h))
	}
	return out
}

func hooksFrom(hooks []*godwitv1.HookJob) []migrate.Hook {
	var out []migrate.Hook
	for _, h := range hooks {
		out = append(out, hookFrom(h))
	}
	return out
}
