package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/table"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func transferLimitsKind() kind {
	return kind{
		name: "TransferLimit", use: "transferlimit", aliases: []string{"transferlimits"},
		short:  "how much the transfers of each node may do",
		object: func() client.Object { return &api.TransferLimit{} },
		list:   func() client.ObjectList { return &api.TransferLimitList{} },
		layout: table.TransferLimit(),
		inHome: true,
	}
}

// limitFlags are the rates as they were typed: what is not given stays as it is.
type limitFlags struct {
	storeBytes, volumeBytes       string
	storeRequests, volumeRequests string
	pause, resume                 bool
}

func newLimit(s *session) *cobra.Command {
	limit := &cobra.Command{
		Use:   "limit",
		Short: "Bound what Godwit takes of the network and the storage",
		Args:  cobra.ArbitraryArgs,
		RunE:  group("what to limit", "transfers"),
	}
	var f limitFlags
	cmd := &cobra.Command{
		Use:     "transfers",
		Aliases: []string{"transfer"},
		Short:   "Bound the transfers of each node, also those that are under way",
		Long: `Bound the transfers of each node, also those that are under way. What is not
given stays as it is; none takes a bound away. Hours of the day with rates of
their own are spec.windows of the TransferLimit: kubectl edit transferlimit.`,
		Example: `  godwitctl limit transfers --store-rate 20Mi
  godwitctl limit transfers --pause
  godwitctl limit transfers --resume --store-rate none`,
		Args: noNames,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.limitTransfers(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.storeBytes, "store-rate", "", "Bytes a second to and from object stores, such as 20Mi, or none")
	flags.StringVar(&f.storeRequests, "store-requests", "", "Requests a second to object stores, or none")
	flags.StringVar(&f.volumeBytes, "volume-rate", "", "Bytes a second read from and written to volumes, such as 100Mi, or none")
	flags.StringVar(&f.volumeRequests, "volume-requests", "", "Reads and writes of volumes a second, or none")
	flags.BoolVar(&f.pause, "pause", false, "Let nothing pass at all until --resume")
	flags.BoolVar(&f.resume, "resume", false, "Let transfers that were paused go on")
	limit.AddCommand(cmd)
	return limit
}

func (s *session) limitTransfers(ctx context.Context, f limitFlags) error {
	if f == (limitFlags{}) || (f.pause && f.resume) {
		return errors.New("say what to change: --store-rate, --store-requests, --volume-rate, --volume-requests, and --pause or --resume")
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	limits := &api.TransferLimit{}
	limits.Name, limits.Namespace = api.TransferLimitName, s.home
	var bad error
	_, err = controllerutil.CreateOrPatch(ctx, c, limits, func() error {
		bad = f.change(&limits.Spec)
		return bad
	})
	if bad != nil {
		return bad
	}
	if err != nil {
		return s.fail("limit transfers", err)
	}
	return s.out("TransferLimit %s: store %s, volumes %s", limits.Name, said(limits.Spec.Store), said(limits.Spec.Volumes))
}

func (f limitFlags) change(spec *api.TransferLimitSpec) error {
	for _, r := range []struct {
		flag, value string
		into        **resource.Quantity
	}{{"--store-rate", f.storeBytes, &spec.Store.BytesPerSecond}, {"--volume-rate", f.volumeBytes, &spec.Volumes.BytesPerSecond}} {
		switch r.value {
		case "":
			continue
		case "none":
			*r.into = nil
			continue
		}
		q, err := resource.ParseQuantity(r.value)
		if err != nil || q.Sign() <= 0 {
			return fmt.Errorf("%s %s is no rate: say bytes a second such as 20Mi, or none", r.flag, r.value)
		}
		*r.into = &q
	}
	for _, r := range []struct {
		flag, value string
		into        *int64
	}{{"--store-requests", f.storeRequests, &spec.Store.RequestsPerSecond}, {"--volume-requests", f.volumeRequests, &spec.Volumes.RequestsPerSecond}} {
		switch r.value {
		case "":
			continue
		case "none":
			*r.into = 0
			continue
		}
		n, err := strconv.ParseInt(r.value, 10, 64)
		if err != nil || n <= 0 {
			return fmt.Errorf("%s %s is no rate: say requests a second such as 100, or none", r.flag, r.value)
		}
		*r.into = n
	}
	if f.pause || f.resume {
		spec.Store.Paused, spec.Volumes.Paused = f.pause, false
	}
	return nil
}

// said is a rate in words.
func said(r api.TransferRate) string {
	words := "not bound"
	if r.BytesPerSecond != nil {
		words = r.BytesPerSecond.String() + " bytes a second"
	}
	if r.RequestsPerSecond > 0 {
		words += fmt.Sprintf(", %d requests a second", r.RequestsPerSecond)
	}
	if r.Paused {
		words = "paused"
	}
	return words
}
