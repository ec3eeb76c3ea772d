package node

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
)

// Limiters bound all transfers of a node together.
type Limiters struct {
	// Store bounds the traffic with object stores, Volumes reading and writing
	// volumes by blocks.
	Store, Volumes *snapshot.Limiter
}

// NewLimiters returns limiters that bound nothing yet.
func NewLimiters() (Limiters, error) {
	store, err := snapshot.NewLimiter(snapshot.Limits{})
	if err != nil {
		return Limiters{}, fmt.Errorf("bound the traffic with stores: %w", err)
	}
	volumes, err := snapshot.NewLimiter(snapshot.Limits{})
	if err != nil {
		return Limiters{}, fmt.Errorf("bound reading and writing volumes: %w", err)
	}
	return Limiters{Store: store, Volumes: volumes}, nil
}

// pausedMessage is a transfer's while nothing may pass.
const pausedMessage = "paused by the TransferLimit " + api.TransferLimitName

// paused says whether transfers are held back.
func (l Limiters) paused(now time.Time) bool {
	store, _ := l.Store.Paused(now)
	volumes, _ := l.Volumes.Paused(now)
	return store || volumes
}

// limitsReconciler holds the limiters to the TransferLimit of Godwit's namespace.
type limitsReconciler struct {
	client   client.Client
	events   events.EventRecorder
	node     string
	limiters Limiters
}

func (r *limitsReconciler) setup(mgr ctrl.Manager, namespace string) error {
	counts := predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetNamespace() == namespace && o.GetName() == api.TransferLimitName
	})
	return ctrl.NewControllerManagedBy(mgr).Named("transferlimits").
		For(&api.TransferLimit{}).WithEventFilter(counts).Complete(r)
}

// Reconcile sets the limiters. Limits that say nothing that can be done leave
// in force what was, and are told of: to bound nothing would be the worse guess.
func (r *limitsReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var l api.TransferLimit
	err := r.client.Get(ctx, req.NamespacedName, &l)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("read TransferLimit %s: %w", req.NamespacedName, err)
	}
	if apierrors.IsNotFound(err) {
		l = api.TransferLimit{}
	}
	store, volumes, err := limitsOf(l.Spec)
	if err != nil {
		log.FromContext(ctx).Error(err, "the limits before stay in force", "transferLimits", req.NamespacedName)
		r.events.Eventf(&l, nil, corev1.EventTypeWarning, "LimitsNotUsed", "Limit",
			"node %s holds to the limits before: %v", r.node, err)
		return ctrl.Result{}, nil
	}
	if err := r.limiters.Store.Set(store); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.limiters.Volumes.Set(volumes)
}

// limitsOf translates what the API says.
func limitsOf(s api.TransferLimitSpec) (store, volumes snapshot.Limits, err error) {
	zone, err := time.LoadLocation(s.TimeZone)
	if err != nil {
		return store, volumes, fmt.Errorf("spec.timeZone: %w: give a name such as Europe/Madrid", err)
	}
	store.Zone, volumes.Zone = zone, zone
	if store.Rate, err = rateOf(s.Store); err != nil {
		return store, volumes, fmt.Errorf("spec.store: %w", err)
	}
	if volumes.Rate, err = rateOf(s.Volumes); err != nil {
		return store, volumes, fmt.Errorf("spec.volumes: %w", err)
	}
	for i, w := range s.Windows {
		forStore, forVolumes, err := windowOf(w, store.Rate, volumes.Rate)
		if err != nil {
			return store, volumes, fmt.Errorf("spec.windows[%d].%w", i, err)
		}
		store.Windows = append(store.Windows, forStore)
		volumes.Windows = append(volumes.Windows, forVolumes)
	}
	return store, volumes, nil
}

// windowOf is one window for each limiter. Who pauses all means every hour.
func windowOf(w api.TransferWindow, store, volumes snapshot.Rate) (forStore, forVolumes snapshot.Window, err error) {
	from, err := timeOfDay(w.From)
	if err != nil {
		return forStore, forVolumes, fmt.Errorf("from: %w", err)
	}
	to, err := timeOfDay(w.To)
	if err != nil {
		return forStore, forVolumes, fmt.Errorf("to: %w", err)
	}
	if w.Store != nil && !store.Paused {
		if store, err = rateOf(*w.Store); err != nil {
			return forStore, forVolumes, fmt.Errorf("store: %w", err)
		}
	}
	if w.Volumes != nil && !volumes.Paused {
		if volumes, err = rateOf(*w.Volumes); err != nil {
			return forStore, forVolumes, fmt.Errorf("volumes: %w", err)
		}
	}
	return snapshot.Window{From: from, To: to, Rate: store}, snapshot.Window{From: from, To: to, Rate: volumes}, nil
}

func rateOf(r api.TransferRate) (snapshot.Rate, error) {
	rate := snapshot.Rate{Requests: r.RequestsPerSecond, Paused: r.Paused}
	if r.BytesPerSecond == nil {
		return rate, nil
	}
	if rate.Bytes = r.BytesPerSecond.Value(); rate.Bytes <= 0 {
		return rate, fmt.Errorf("bytesPerSecond %s is no rate: leave it out for no bound, or say paused", r.BytesPerSecond)
	}
	return rate, nil
}

// timeOfDay reads hours and minutes since midnight.
func timeOfDay(s string) (time.Duration, error) {
	if s == "24:00" {
		return 24 * time.Hour, nil
	}
	at, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%q is no time of day such as 18:30", s)
	}
	return time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute, nil
}
