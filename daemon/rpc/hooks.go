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
		BackoffLimit: h.BackoffLimit, DeadlineSeconds: int64(h.Deadline / time.Second),
	}
}

func hookFrom(h *godwitv1.HookJob) migrate.Hook {
	return migrate.Hook{
		Name: h.GetName(), Phase: migrate.HookPhase(h.GetPhase()), Namespace: h.GetNamespace(), ServiceAccount: h.GetServiceAccount(),
		Image: h.GetImage(), Command: h.GetCommand(), Args: h.GetArgs(), Files: h.GetFiles(),
		BackoffLimit: h.GetBackoffLimit(), Deadline: time.Duration(h.GetDeadlineSeconds()) * time.Second,
	}
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
