// Command k8s is a whole Kubernetes in one binary: every component links most of the same packages, so one
// link of all of them is built in a fraction of the time and a seventh of the space of seven binaries.
//
// The name it is called by picks the component (kube-apiserver, etcd, kubectl, ...), as busybox does; called as k8s,
// the first argument does. `components` lists the names, for whoever makes the links.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	_ "time/tzdata" // a bare machine may have no time zones

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // credential plugins of a user's own kubeconfig
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// Each entry runs one component with os.Args until it ends.
var components = map[string]func(){
	"etcd":                    func() { etcdmain.Main(os.Args) },
	"kubectl":                 runKubectl,
	"kube-apiserver":          func() { run(apiserver.NewAPIServerCommand()) },
	"kube-controller-manager": func() { run(controllers.NewControllerManagerCommand()) },
	"kube-scheduler":          func() { run(scheduler.NewSchedulerCommand()) },
	"kube-proxy":              func() { run(proxy.NewProxyCommand()) },
	"kubelet":                 func() { run(kubelet.NewKubeletCommand(context.Background())) },
}

func run(command *cobra.Command) { os.Exit(cli.Run(command)) }

// kubectl's own main: it reads -v before the flags are parsed, and prints errors in its own way.
func runKubectl() {
	logs.GlogSetter(kubectl.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
}

func main() {
	component := filepath.Base(os.Args[0])
	if components[component] == nil && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		component = os.Args[0]
	}
	if start := components[component]; start != nil {
		start()
		return
	}
	names := slices.Sorted(maps.Keys(components))
	if component == "components" {
		for _, name := range names {
			fmt.Println(name)
		}
		return
	}
	fmt.Fprintf(os.Stderr, "found the component %q, expected one of %v\n", component, names)
	os.Exit(2)
}
