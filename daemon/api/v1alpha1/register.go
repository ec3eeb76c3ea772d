package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group of Godwit's kinds.
const Group = "godwit.io"

// Version is the version of this package.
const Version = "v1alpha1"

// GroupVersion returns godwit.io/v1alpha1.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: Group, Version: Version}
}

// AddToScheme registers all kinds of this package.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(),
		&Action{}, &ActionList{},
		&ApplicationRegistration{}, &ApplicationRegistrationList{},
		&BackupLocation{}, &BackupLocationList{},
		&ClusterPair{}, &ClusterPairList{},
		&Drill{}, &DrillList{},
		&Migration{}, &MigrationList{},
		&MigrationSchedule{}, &MigrationScheduleList{},
		&NamespacedSchedulePolicy{}, &NamespacedSchedulePolicyList{},
		&Rule{}, &RuleList{},
		&SchedulePolicy{}, &SchedulePolicyList{},
		&ResourceTransformation{}, &ResourceTransformationList{},
		&TransferLimit{}, &TransferLimitList{},
		&Standby{}, &StandbyList{},
		&VolumeTransfer{}, &VolumeTransferList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
