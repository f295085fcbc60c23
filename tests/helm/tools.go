//go:build tools

// Helm as it is released, for the tests of the chart: go build -o helm helm.sh/helm/v3/cmd/helm
package tools

import _ "helm.sh/helm/v3/cmd/helm"
