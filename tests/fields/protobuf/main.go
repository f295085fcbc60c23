// Reads lists of objects in JSON and writes each as Kubernetes' types have it: in JSON, and in the protobuf that Go's clients send. By this
// the API server's reading of protobuf is tested.
// Usage: cat ../../cluster/apiserver/tests/apiserver/kinds.json protobuf/zeros.json | go run ./protobuf >../../cluster/apiserver/src/wire/protobuf/bodies.jsonl
package main

import (
	"encoding/json"
	"fmt"
	"os"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	certificates "k8s.io/api/certificates/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	events "k8s.io/api/events/v1"
	networking "k8s.io/api/networking/v1"
	node "k8s.io/api/node/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	scheduling "k8s.io/api/scheduling/v1"
	storage "k8s.io/api/storage/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		admissionregistration.AddToScheme, apiextensions.AddToScheme, apiregistration.AddToScheme, apps.AddToScheme,
		autoscaling.AddToScheme, batch.AddToScheme, certificates.AddToScheme, coordination.AddToScheme, core.AddToScheme,
		discovery.AddToScheme, events.AddToScheme, networking.AddToScheme, node.AddToScheme, policy.AddToScheme,
		rbac.AddToScheme, scheduling.AddToScheme, storage.AddToScheme,
	} {
		must(add(scheme))
	}
	var objects []json.RawMessage
	for in := json.NewDecoder(os.Stdin); in.More(); {
		var more []json.RawMessage
		must(in.Decode(&more))
		objects = append(objects, more...)
	}
	decoder := serializer.NewCodecFactory(scheme).UniversalDeserializer()
	encoder := protobuf.NewSerializer(scheme, scheme)
	out := json.NewEncoder(os.Stdout)
	for _, text := range objects {
		object, _, err := decoder.Decode(text, nil, nil)
		must(err)
		bytes, err := runtime.Encode(encoder, object)
		must(err)
		// Protobuf cannot say everything: what the server has is what it reads.
		object, _, err = encoder.Decode(bytes, nil, nil)
		must(err)
		must(out.Encode(map[string]any{"object": object, "protobuf": bytes}))
	}
}
