// Runs the end-to-end cases of OpenKruise, unmodified, against whatever serves its API.
package suite

import (
	"flag"
	"os"
	"testing"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	kruiseapis "github.com/openkruise/kruise/apis"
	_ "github.com/openkruise/kruise/test/e2e/apps/v1alpha1"
	_ "github.com/openkruise/kruise/test/e2e/apps/v1beta1"
	"github.com/openkruise/kruise/test/e2e/framework/common"
)

func TestMain(m *testing.M) {
	common.RegisterCommonFlags(flag.CommandLine)
	common.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	common.AfterReadingAllFlags(&common.TestContext)
	os.Exit(m.Run())
}

func TestKruise(t *testing.T) {
	utilruntime.Must(kruiseapis.AddToScheme(scheme.Scheme))
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.RunSpecs(t, "OpenKruise's own cases")
}
