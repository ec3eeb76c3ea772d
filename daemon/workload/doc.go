// Package workload moves the objects around an application's volumes, in five
// steps over unstructured objects: Collect reads them from a cluster, Transform
// rewrites them for another, Order sorts them into waves, Apply writes one, and
// Undo takes one write back. Encode and Decode carry them in between; KeepAddresses
// settles what only the receiving cluster can say of Services. Turn starts what a
// Migration brought and holds, or holds it again.
//
// Its words: a Selection says what is wanted, a Rule why something is left out,
// a Wave is what may be written side by side, Applied is the record of one
// write and all that Undo needs. A stamp is the set of annotations that tell
// which run wrote an object.
//
// It never moves bytes of volumes, never makes PersistentVolumes, never deletes
// an object in order to create it again, and holds no state between calls.
//
// Whatever an application is made of is made anew. Kubernetes otherwise refuses
// Roles and RoleBindings that give more than the controller itself may do, such
// as the use of a custom resource's subresource.
//
// +kubebuilder:rbac:groups="*",resources="*",verbs=create;update;patch;delete
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=roles;clusterroles,verbs=bind;escalate
package workload
