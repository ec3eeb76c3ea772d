package migrate

// Method says how a volume is read.
type Method string

// The methods.
const (
	MethodAuto       Method = "Auto"
	MethodBlock      Method = "Block"
	MethodFilesystem Method = "Filesystem"
)

// VolumeFacts is what the choice of a method rests on.
type VolumeFacts struct {
	// BlockMode is true for a claim with volumeMode Block.
	BlockMode bool
	// Shared is true for a claim that several nodes may mount.
	Shared bool
	// HasSnapshots is true where the storage can take CSI snapshots; otherwise
	// NoSnapshots says why not.
	HasSnapshots bool
	NoSnapshots  string
}

// Choice is a method with its reason, or a refusal.
type Choice struct {
	Method Method
	Reason string
	// Live is true where no snapshot can be taken: the files are read while in use.
	Live bool
	// Refused says why the volume cannot be moved so; empty if it can.
	Refused string
}

// ChooseMethod picks how to read a volume. A method asked for by name is taken
// or refused, never silently replaced.
func ChooseMethod(asked Method, f VolumeFacts) Choice {
	switch {
	case f.BlockMode && !f.HasSnapshots:
		return Choice{Refused: "a raw block volume without snapshots cannot be read at one moment (" + f.NoSnapshots +
			"): install a VolumeSnapshotClass for its driver, or leave the claim out by label"}
	case f.BlockMode && asked == MethodFilesystem:
		return Choice{Refused: "a raw block volume has no files: use method Auto or Block"}
	case asked == MethodBlock && !f.HasSnapshots:
		return Choice{Refused: "method Block needs snapshots (" + f.NoSnapshots + "): use method Auto or Filesystem"}
	case asked == MethodBlock && f.Shared:
		return Choice{Refused: "a shared volume has no blocks of its own: use method Auto or Filesystem"}
	case asked == MethodFilesystem:
		return files(f, "method Filesystem was asked for")
	case f.Shared:
		return files(f, "the volume is shared")
	case !f.HasSnapshots:
		return files(f, "the storage has no snapshots")
	case f.BlockMode:
		return Choice{Method: MethodBlock, Reason: "raw block volume"}
	default:
		return Choice{Method: MethodBlock, Reason: "block storage with snapshots"}
	}
}

func files(f VolumeFacts, why string) Choice {
	if f.HasSnapshots {
		return Choice{Method: MethodFilesystem, Reason: why + "; files are read from a snapshot"}
	}
	return Choice{Method: MethodFilesystem, Live: true,
		Reason: why + "; files are read live, not at one moment (" + f.NoSnapshots + ")"}
}
