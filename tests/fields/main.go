// Writes cluster/machinery/src/fields.txt: which fields the built-in kinds have and of which types, from Kubernetes' own types.
package main

import (
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
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
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

const head = `# Fields of the built-in kinds served, with their protobuf numbers and types, as Kubernetes 1.33 has them.
# Made by tests/fields: go run . >../../cluster/machinery/src/fields.txt
# One message a line: number:name:type. Types: s text, i integer of 32 bits, l of 64 bits, b truth, y bytes, d float, @x special, else a
# message; *x repeated, %x map by text, x? optional (zero is a value), x+ said also when it is zero. x~k: a strategic merge patch merges the list by the key k, x~ as a set
# of plain values, x! has the patch in place of the object. x/n called n in Go. No name: its fields belong to the message around it.
# A message that is "=" is its one repeated field.
`

// What is served, and what is read besides.
var roots = []any{
	admissionregistration.MutatingWebhookConfiguration{}, admissionregistration.ValidatingAdmissionPolicy{},
	admissionregistration.ValidatingAdmissionPolicyBinding{}, admissionregistration.ValidatingWebhookConfiguration{},
	apiextensions.CustomResourceDefinition{}, apiregistration.APIService{},
	apps.ControllerRevision{}, apps.DaemonSet{}, apps.Deployment{}, apps.ReplicaSet{}, apps.StatefulSet{},
	authentication.SelfSubjectReview{}, authentication.TokenRequest{}, authentication.TokenReview{},
	authorization.LocalSubjectAccessReview{}, authorization.SelfSubjectAccessReview{},
	authorization.SelfSubjectRulesReview{}, authorization.SubjectAccessReview{},
	autoscalingv1.Scale{}, autoscaling.HorizontalPodAutoscaler{},
	batch.CronJob{}, batch.Job{}, certificates.CertificateSigningRequest{}, coordination.Lease{},
	core.Binding{}, core.ConfigMap{}, core.Endpoints{}, core.Event{}, core.LimitRange{}, core.Namespace{}, core.Node{},
	core.PersistentVolume{}, core.PersistentVolumeClaim{}, core.Pod{}, core.PodTemplate{}, core.ReplicationController{},
	core.ResourceQuota{}, core.Secret{}, core.Service{}, core.ServiceAccount{},
	discovery.EndpointSlice{}, events.Event{},
	meta.DeleteOptions{}, networking.Ingress{}, networking.IngressClass{}, networking.NetworkPolicy{},
	node.RuntimeClass{}, policy.Eviction{}, policy.PodDisruptionBudget{},
	rbac.ClusterRole{}, rbac.ClusterRoleBinding{}, rbac.Role{}, rbac.RoleBinding{},
	scheduling.PriorityClass{},
	storage.CSIDriver{}, storage.CSINode{}, storage.CSIStorageCapacity{}, storage.StorageClass{}, storage.VolumeAttachment{},
}

var special = map[string]string{
	"k8s.io/apimachinery/pkg/apis/meta/v1.Time":                                             "@time",
	"k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime":                                        "@micro",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Duration":                                         "@duration",
	"k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1":                                         "@raw",
	"k8s.io/apimachinery/pkg/api/resource.Quantity":                                         "@quantity",
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString":                                       "@intstr",
	"k8s.io/apimachinery/pkg/runtime.RawExtension":                                          "@raw",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON":                         "@raw",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrArray":       "@schemas",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrBool":        "@schemabool",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrStringArray": "@schematexts",
}

var messages = map[string]string{}

func name(t reflect.Type) string {
	parts := strings.Split(t.PkgPath(), "/")
	return parts[len(parts)-2] + "." + parts[len(parts)-1] + "." + t.Name()
}

// The letter of a type, and what Go calls it where that is not the letter's own type.
func kind(t reflect.Type) (string, string) {
	called := ""
	if t.PkgPath() != "" {
		called = t.String()
	}
	if s, ok := special[t.PkgPath()+"."+t.Name()]; ok {
		if strings.HasPrefix(s, "@schema") {
			message(reflect.TypeOf(apiextensions.JSONSchemaProps{}))
		}
		if s == "@raw" {
			return s, called
		}
		return s, ""
	}
	switch t.Kind() {
	case reflect.String:
		return "s", called
	case reflect.Int32:
		return "i", called
	case reflect.Int64:
		return "l", called
	case reflect.Bool:
		return "b", called
	case reflect.Float64:
		return "d", called
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "y", called
		}
		messages[name(t)] = "="
		return name(t), ""
	case reflect.Struct:
		message(t)
		return name(t), ""
	}
	panic(t.String())
}

func field(f reflect.StructField) string {
	tag := strings.Split(f.Tag.Get("json"), ",")
	number := strings.Split(f.Tag.Get("protobuf"), ",")[1]
	jsonName := tag[0]
	t, optional := f.Type, ""
	if t.Kind() == reflect.Pointer {
		t, optional = t.Elem(), "?"
	}
	shape, called := "", ""
	isList := t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8
	switch {
	case isList && (t.PkgPath() == "" || t.Elem().Kind() == reflect.Struct):
		if t.PkgPath() != "" {
			called = t.String()
		}
		shape, t = "*", t.Elem()
	case t.Kind() == reflect.Map:
		if t.PkgPath() != "" {
			called = t.String()
		}
		shape, t = "%", t.Elem()
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	k, own := kind(t)
	if called == "" {
		called = own
	}
	omitted := strings.Contains(f.Tag.Get("json"), ",omitempty")
	if len(k) == 1 && shape == "" && optional == "" && !omitted {
		optional = "+"
	}
	if called != "" {
		called = "/" + called
	}
	return fmt.Sprintf("%s:%s:%s%s%s%s%s", number, jsonName, shape, k, optional, merge(f, shape, k), called)
}

// How a strategic merge patch treats a field, where that is not by its form alone.
func merge(f reflect.StructField, shape, kind string) string {
	for _, strategy := range strings.Split(f.Tag.Get("patchStrategy"), ",") {
		switch {
		case strategy == "merge" && shape == "*":
			key := f.Tag.Get("patchMergeKey")
			if scalar := len(kind) == 1; scalar != (key == "") {
				panic(f.Name + ": a merged list has a key if it has objects")
			}
			return "~" + key
		case strategy == "replace":
			return "!"
		case strategy == "merge":
			panic(f.Name + ": only lists are merged")
		}
	}
	return ""
}

func message(t reflect.Type) {
	if _, done := messages[name(t)]; done {
		return
	}
	messages[name(t)] = ""
	var fields []string
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Tag.Get("protobuf") == "" || f.Tag.Get("protobuf") == "-" || f.Name == "TypeMeta" {
			continue
		}
		fields = append(fields, field(f))
	}
	messages[name(t)] = strings.Join(fields, " ")
}

func main() {
	for _, root := range roots {
		message(reflect.TypeOf(root))
	}
	lines := []string{}
	for name, fields := range messages {
		lines = append(lines, strings.TrimRight(name+" "+fields, " "))
	}
	sort.Strings(lines)
	fmt.Fprint(os.Stdout, head+strings.Join(lines, "\n")+"\n")
}
