package v1alpha1

// RuleOptions name what runs in the application's pods around its snapshots.
type RuleOptions struct {
	// PreExecRule names a Rule in the Migration's namespace. Its commands run in the
	// pods of every namespace that moves, before the snapshots; those in the
	// background are held where they say ${WAIT_CMD} until the snapshots are cut.
	// +optional
	PreExecRule string `json:"preExecRule,omitempty"`
	// PostExecRule names a Rule in the Migration's namespace whose commands run
	// after the snapshots are cut. When a Migration ends before that, they run too
	// if preExecRule had begun: what it froze is not left so.
	// +optional
	PostExecRule string `json:"postExecRule,omitempty"`
}

// RuleStatus tells how a Migration's rules fare.
type RuleStatus struct {
	// PreExec are the commands of preExecRule.
	// +optional
	PreExec []RuleTask `json:"preExec,omitempty"`
	// PostExec are the commands of postExecRule.
	// +optional
	PostExec []RuleTask `json:"postExec,omitempty"`
}
