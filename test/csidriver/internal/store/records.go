package store

import "time"

// Volume is the record of a volume.
type Volume struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Size in bytes, a multiple of 4096.
	Size int64 `json:"size"`
	// Shared volumes are folders; all others are images.
	Shared bool `json:"shared,omitempty"`
	// FromSnapshot and FromVolume name what the volume was made from.
	FromSnapshot string `json:"fromSnapshot,omitempty"`
	FromVolume   string `json:"fromVolume,omitempty"`
	// ClaimNamespace is where the claim is that the volume was made for; empty
	// where the provisioner does not tell.
	ClaimNamespace string `json:"claimNamespace,omitempty"`
	// Node is the only node that reaches the volume; empty means every node.
	Node        string       `json:"node,omitempty"`
	Attachments []Attachment `json:"attachments,omitempty"`
}

// Attachment allows a node to stage a volume.
type Attachment struct {
	Node     string `json:"node"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// Snapshot is the record of a snapshot.
type Snapshot struct {
	ID     string    `json:"id"`
	Name   string    `json:"name"`
	Volume string    `json:"volume"`
	Group  string    `json:"group,omitempty"`
	Size   int64     `json:"size"`
	Node   string    `json:"node,omitempty"`
	Taken  time.Time `json:"taken"`
}

// Group is the record of snapshots that show one moment.
type Group struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Snapshots []string  `json:"snapshots"`
	Taken     time.Time `json:"taken"`
}

// Record is *Volume, *Snapshot or *Group.
type Record interface {
	kind() Kind
	id() string
}

func (*Volume) kind() Kind   { return Volumes }
func (*Snapshot) kind() Kind { return Snapshots }
func (*Group) kind() Kind    { return Groups }

func (v *Volume) id() string   { return v.ID }
func (s *Snapshot) id() string { return s.ID }
func (g *Group) id() string    { return g.ID }

// Kind tells the records apart; it is the name of their folder.
type Kind string

// The kinds of records.
const (
	Volumes   Kind = "volumes"
	Snapshots Kind = "snapshots"
	Groups    Kind = "groups"
)

// prefix begins the IDs of a kind.
func (k Kind) prefix() string {
	switch k {
	case Volumes:
		return "vol"
	case Snapshots:
		return "snap"
	default:
		return "group"
	}
}

// file is the name of the record in its folder.
func (k Kind) file() string {
	switch k {
	case Volumes:
		return "volume.json"
	case Snapshots:
		return "snapshot.json"
	default:
		return "group.json"
	}
}
