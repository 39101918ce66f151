package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A cluster is a Slurm of this test's own on loopback: a controller and two nodes of two fake GPUs each, run as
// an ordinary user.
type cluster struct {
	dir string
}

// startCluster begins one, and ends it with the test. Commands find it by SLURM_CONF.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	if os.Getenv("GOCP_SLURM") == "" {
		t.Skip("make test-slurm starts a Slurm of its own")
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "SLURM_") || strings.HasPrefix(name, "SBATCH_") {
			t.Fatalf("%s is set: this runs in a job of another Slurm", name)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t.TempDir()}
	for _, sub := range []string{"state", "spool", "run", "log"} {
		if err := os.Mkdir(filepath.Join(c.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ports := freePorts(t, 3)
	conf := fmt.Sprintf(`ClusterName=test
SlurmctldHost=%[1]s(127.0.0.1)
SlurmUser=%[2]s
SlurmdUser=%[2]s
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
SlurmctldPort=%[4]d
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=%[3]s/state
SlurmdSpoolDir=%[3]s/spool/%%n
SlurmctldPidFile=%[3]s/run/ctld.pid
SlurmdPidFile=%[3]s/run/%%n.pid
SlurmctldLogFile=%[3]s/log/ctld
SlurmdLogFile=%[3]s/log/%%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1
KillWait=2
MinJobAge=2
MaxArraySize=5
SlurmdTimeout=10
ReturnToService=2
GresTypes=gpu
NodeName=n1 NodeHostname=%[1]s NodeAddr=127.0.0.1 Port=%[5]d CPUs=2 RealMemory=1000 Gres=gpu:h100:2
NodeName=n2 NodeHostname=%[1]s NodeAddr=127.0.0.1 Port=%[6]d CPUs=2 RealMemory=1000 Gres=gpu:h100:2
PartitionName=p Nodes=ALL Default=YES State=UP
`, host, me.Username, c.dir, ports[0], ports[1], ports[2])
	write(t, c.dir, "slurm.conf", []byte(conf))
	write(t, c.dir, "gres.conf", []byte("Name=gpu Type=h100 File=/dev/null\nName=gpu Type=h100 File=/dev/zero\n"))
	t.Setenv("SLURM_CONF", filepath.Join(c.dir, "slurm.conf"))
	t.Cleanup(func() { c.stop(t) })
	c.command(t, "slurmctld", "-f", c.dir+"/slurm.conf")
	c.startNode(t, "n1")
	c.startNode(t, "n2")
	c.until(t, 30*time.Second, "the nodes are idle", func() bool {
		out, _ := exec.Command("sinfo", "-h", "-o", "%T %D").Output()
		return strings.TrimSpace(string(out)) == "idle 2"
	})
	return c
}

func (c *cluster) startNode(t *testing.T, name string) {
	t.Helper()
	c.command(t, "slurmd", "-f", c.dir+"/slurm.conf", "-N", name)
}

// freePorts are ports of loopback that nobody listens on now.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// command runs a program that must succeed.
func (c *cluster) command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s%s", name, strings.Join(args, " "), err, out, c.logs())
	}
	return string(out)
}

// until waits, with a bound, for something to be so.
func (c *cluster) until(t *testing.T, most time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(most); !so(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v it is not so that %s\n%s", most, what, c.logs())
		}
	}
}

// logs is the end of what the daemons say.
func (c *cluster) logs() string {
	var b strings.Builder
	for _, name := range []string{"ctld", "n1", "n2"} {
		log, _ := os.ReadFile(filepath.Join(c.dir, "log", name))
		fmt.Fprintf(&b, "--- %s\n%s\n", name, log[max(0, len(log)-1500):])
	}
	queue, _ := exec.Command("squeue").CombinedOutput()
	return b.String() + string(queue)
}

// stop ends jobs, then daemons: a killed slurmd would leave its jobs' minders behind.
func (c *cluster) stop(t *testing.T) {
	if out, _ := exec.Command("squeue", "-h", "-o", "%A").Output(); len(out) > 0 {
		_ = exec.Command("scancel", append([]string{"--full"}, strings.Fields(string(out))...)...).Run()
		for range 100 {
			if out, _ := exec.Command("squeue", "-h").Output(); len(out) == 0 {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	for _, name := range []string{"n1", "n2", "ctld"} {
		b, err := os.ReadFile(filepath.Join(c.dir, "run", name+".pid"))
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || syscall.Kill(pid, syscall.SIGTERM) != nil {
			continue
		}
		for range 100 {
			if syscall.Kill(pid, 0) != nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}
