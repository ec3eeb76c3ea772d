package workload

// Lack is something that the target does not have for what is to come.
type Lack struct {
	Ref Ref `json:"ref"`
	// Reason is one CamelCase word.
	Reason string `json:"reason"`
	// Message names the object, and ends with the remedy.
	Message string `json:"message"`
	// Fails means that the run, or the first pod, would certainly be refused. It is
	// told among the problems too.
	Fails bool `json:"fails,omitempty"`
}

// Image is what the target's API server knows of a container image.
type Image struct {
	Name  string     `json:"name"`
	Known ImageKnown `json:"known"`
	Users []Ref      `json:"users,omitempty"`
}

// ImageKnown says how it is known that an image can be had.
type ImageKnown string

// What can be known without asking a registry.
const (
	// ImageOnNode: a node tells that it has the image.
	ImageOnNode ImageKnown = "OnNode"
	// ImageRegistryInUse: a node has another image of the same registry.
	ImageRegistryInUse ImageKnown = "RegistryInUse"
	// ImageUnknown: nothing is known; a node may tell of its 50 largest images only.
	ImageUnknown ImageKnown = "Unknown"
)
