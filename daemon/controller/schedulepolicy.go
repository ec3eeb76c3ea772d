package controller

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/schedule"
)

// +kubebuilder:rbac:groups=godwit.io,resources=schedulepolicies,verbs=list;watch;create
// +kubebuilder:rbac:groups=godwit.io,resources=namespacedschedulepolicies,verbs=list;watch

// policyFor looks a policy up as stork does: the namespace's own first, then
// the cluster's.
func policyFor(ctx context.Context, c client.Reader, namespace, name string) (api.SchedulePolicyItem, error) {
	if name == "" {
		name = api.DefaultPolicyName
	}
	var own api.NamespacedSchedulePolicy
	err := c.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &own)
	if err == nil {
		return own.Policy, nil
	}
	if !apierrors.IsNotFound(err) {
		return api.SchedulePolicyItem{}, fmt.Errorf("read NamespacedSchedulePolicy %s/%s: %w", namespace, name, err)
	}
	var p api.SchedulePolicy
	if err := c.Get(ctx, types.NamespacedName{Name: name}, &p); err != nil {
		if apierrors.IsNotFound(err) {
			return api.SchedulePolicyItem{}, final("PolicyNotFound",
				"neither NamespacedSchedulePolicy %s/%s nor SchedulePolicy %s exists: create one, or correct spec.schedulePolicyName", namespace, name, name)
		}
		return api.SchedulePolicyItem{}, fmt.Errorf("read SchedulePolicy %s: %w", name, err)
	}
	return p.Policy, nil
}

// parsePolicy reads a policy's words; its errors name the field.
func parsePolicy(item api.SchedulePolicyItem) (schedule.Policy, error) {
	var p schedule.Policy
	var err error
	if item.TimeZone != "" {
		if p.Zone, err = time.LoadLocation(item.TimeZone); err != nil {
			return p, fmt.Errorf("policy.timeZone: %q is no time zone: write it as Europe/Madrid", item.TimeZone)
		}
	}
	if i := item.Interval; i != nil {
		every := time.Duration(i.IntervalMinutes) * time.Minute
		p.Every = &every
	}
	if d := item.Daily; d != nil {
		at, err := schedule.ParseClock(d.Time)
		if err != nil {
			return p, fmt.Errorf("policy.daily.time: %w", err)
		}
		p.Daily = &at
	}
	if w := item.Weekly; w != nil {
		p.Weekly = &schedule.WeeklyAt{}
		if p.Weekly.At, err = schedule.ParseClock(w.Time); err != nil {
			return p, fmt.Errorf("policy.weekly.time: %w", err)
		}
		if p.Weekly.Day, err = schedule.ParseWeekday(w.Day); err != nil {
			return p, fmt.Errorf("policy.weekly.day: %w", err)
		}
	}
	if m := item.Monthly; m != nil {
		p.Monthly = &schedule.MonthlyAt{Date: m.Date}
		if p.Monthly.At, err = schedule.ParseClock(m.Time); err != nil {
			return p, fmt.Errorf("policy.monthly.time: %w", err)
		}
	}
	return p, p.Validate()
}

// defaultRetain is for runs that no section of the policy speaks of.
const defaultRetain = 10

func retain(item api.SchedulePolicyItem, t schedule.Trigger) int {
	n := defaultRetain
	switch {
	case t == schedule.Interval && item.Interval != nil:
		n = item.Interval.Retain
	case t == schedule.Daily && item.Daily != nil:
		n = item.Daily.Retain
	case t == schedule.Weekly && item.Weekly != nil:
		n = item.Weekly.Retain
	case t == schedule.Monthly && item.Monthly != nil:
		n = item.Monthly.Retain
	}
	return max(n, 1)
}

// DefaultPolicies makes the policies that stork's users expect to be there,
// once. It never changes one that exists.
type DefaultPolicies struct {
	Client client.Client
}

// Start makes them and returns.
func (d DefaultPolicies) Start(ctx context.Context) error {
	const midnight = "12:00AM"
	for name, item := range map[string]api.SchedulePolicyItem{
		api.DefaultPolicyName:     {Interval: &api.IntervalPolicy{IntervalMinutes: 30, Retain: 10}},
		"default-interval-policy": {Interval: &api.IntervalPolicy{IntervalMinutes: 15, Retain: 10}},
		"default-daily-policy":    {Daily: &api.DailyPolicy{Time: midnight, Retain: 7}},
		"default-weekly-policy":   {Weekly: &api.WeeklyPolicy{Day: "Sunday", Time: midnight, Retain: 4}},
		"default-monthly-policy":  {Monthly: &api.MonthlyPolicy{Date: 15, Time: midnight, Retain: 12}},
	} {
		p := &api.SchedulePolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Policy: item}
		if err := d.Client.Create(ctx, p); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create SchedulePolicy %s: %w", name, err)
		}
	}
	return nil
}
