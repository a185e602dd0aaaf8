package main

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/otp"
)

// Two agents help a user who has lost the phone, each as their own NATS user: one begins, the other approves. The audit tells all of it.
func TestSupportAndAuditCommands(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.SupportApproval = true }))
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleEmail, bus.RoleVerification, bus.RoleEnrolment)
	s.recoverable("alice", 1)
	agent := func(name string) shell {
		return shell{t, map[string]string{
			"OTPOST_CONFIG": write(t, name+".yaml", "nats-url: "+s.nats.URL()+"\nagent: "+name+"\nnats-password: "+s.nats.AgentPassword(name)+"\n"), "OTPOST_APP": "demo",
		}}
	}
	ann, bob := agent("ann"), agent("bob")

	out := ann.ok("support", "find", "alice")
	for _, row := range [][]string{{"second factor", "on"}, {"backup codes left", "10"}, {"trusted devices", "0"}, {"factor", "totp"}, {"recovery by", "email"}} {
		has(t, out, row...)
	}
	if strings.Contains(out, "alice@") || strings.Contains(out, phone(1)) || !strings.Contains(out, "•") || !strings.HasSuffix(out, "No recovery is under way.\n") {
		t.Errorf("find says:\n%s", out)
	}
	if nobody, none := ann.ok("support", "find", "nobody"), ann.ok("support", "status", "nobody"); !strings.Contains(nobody, "second factor") || none != "No recovery is under way.\n" {
		t.Errorf("of nobody it says:\n%s%s", nobody, none)
	}

	out = ann.ok("support", "begin", "alice", "--reason=ticket 4711: lost phone", "--methods=email,phone")
	has(t, out, "state", "approval")
	has(t, out, "code by", "email", "a•••@rescue.example", "not sent")
	id := regexp.MustCompile(`(?m)^recovery\s+(\S+)$`).FindStringSubmatch(out)
	if id == nil {
		t.Fatalf("begin says:\n%s", out)
	}
	if pending := "\nNo code is sent until another agent runs: otpost support approve " + id[1] + "\n"; !strings.HasSuffix(out, pending) || strings.Contains(out, "queued") {
		t.Errorf("begin says:\n%s", out)
	}
	ann.fails(1, []string{"begun by this very agent"}, "support", "approve", id[1])
	bob.fails(1, []string{"under way"}, "support", "begin", "alice", "--reason=again")
	if out = bob.ok("support", "approve", id[1]); !strings.Contains(out, "proving") {
		t.Errorf("approve says:\n%s", out)
	}
	if out = ann.ok("support", "status", "alice"); !strings.Contains(out, "code by") || !strings.Contains(out, id[1]) || strings.Contains(out, phone(1)) {
		t.Errorf("status says:\n%s", out)
	}
	bob.fails(1, []string{"does not wait"}, "support", "refuse", id[1])
	if out = bob.ok("support", "cancel", id[1]); !strings.Contains(out, "cancelled") {
		t.Errorf("cancel says:\n%s", out)
	}
	out = ann.ok("support", "begin", "alice", "--reason=ticket 4712")
	id = regexp.MustCompile(`(?m)^recovery\s+(\S+)$`).FindStringSubmatch(out)
	if out = bob.ok("support", "refuse", id[1]); !strings.Contains(out, "refused") || strings.Contains(out, "queued") || strings.Contains(out, "No code is sent until") {
		t.Errorf("refuse says:\n%s", out)
	}

	// An agent is who the password says, and nobody else.
	bob.fails(1, []string{"--agent"}, "support", "status", "alice", "--agent=Bob Smith")
	bob.fails(1, []string{"--app"}, "support", "status", "alice", "--app=a b")
	bob.fails(2, []string{"--reason"}, "support", "begin", "alice")
	if status, stdout, stderr := run1(t.Context(), bob.env, "support", "status", "alice", "--agent=ann", "--wait=300ms", "--log-level=error"); status != 1 || stdout != "" || !strings.Contains(stderr, "reaching NATS") {
		t.Errorf("as another agent: exit %d, %q, %s", status, stdout, stderr)
	}

	operator := shell{t, map[string]string{"OTPOST_DATABASE_URL": s.db.URL("operator"), "OTPOST_KEYS": s.keys, "OTPOST_APP": "demo"}}
	operator.ok("account", "unlock", "--user=alice")
	out = operator.ok("audit", "--user=alice", "--session=session of alice")
	told := 0
	for _, want := range []string{
		`user +factor\.added .* this `, `agent:ann +recovery\.begun .*ticket 4711: lost phone`, `agent:bob +recovery\.approved `, `agent:bob +recovery\.cancelled `,
		`agent:ann +recovery\.begun .*ticket 4712`, `agent:bob +recovery\.refused `, `operator +account\.unlocked`,
	} {
		at := regexp.MustCompile(want).FindStringIndex(out[told:])
		if at == nil {
			t.Fatalf("the audit has no %q in its place:\n%s", want, out)
		}
		told += at[1]
	}
	if strings.Contains(out, "alice") || strings.Contains(out, "session of") {
		t.Errorf("the audit names people:\n%s", out)
	}
	rows := strings.Count(out, "\n") - 1
	if out := operator.ok("audit", "--user=alice", "--limit="+strconv.Itoa(rows)); strings.Count(out, "\n") != rows+1 {
		t.Errorf("all lines are:\n%s", out)
	}
	last := regexp.MustCompile(`(?m)^(\d+) `).FindAllStringSubmatch(out, -1)
	// The newest lines, then page by page back to the first.
	var paged []string
	for before := ""; ; {
		page := operator.ok("audit", "--user=alice", "--limit=2", "--before="+cmp.Or(before, "0"))
		var numbers []string
		for _, m := range regexp.MustCompile(`(?m)^(\d+) `).FindAllStringSubmatch(page, -1) {
			numbers = append(numbers, m[1])
		}
		if paged = append(numbers, paged...); len(numbers) == 0 || len(numbers) > 2 {
			t.Fatalf("a page of two lines is:\n%s", page)
		}
		more := regexp.MustCompile(`(?m)^… older lines: --before (\d+)\n\z`).FindStringSubmatch(page)
		if more == nil {
			break
		}
		before = more[1]
	}
	for i, m := range last {
		if len(paged) != rows || paged[i] != m[1] {
			t.Fatalf("page by page the lines are %v, and the audit is:\n%s", paged, out)
		}
	}
	if out := operator.ok("audit", "--user=alice", "--limit=1", "--after="+last[0][1]); !strings.HasSuffix(out, "\n… newer lines: --after "+last[1][1]+"\n") {
		t.Errorf("one line after the first:\n%s", out)
	}
	operator.fails(1, []string{"--before", "--after"}, "audit", "--user=alice", "--before=5", "--after=1")
	if out := operator.ok("audit", "--user=alice", "--after="+last[rows-2][1]); strings.Count(out, "\n") != 2 || !strings.Contains(out, "account.unlocked") {
		t.Errorf("after the last but one:\n%s", out)
	}
	if out := operator.ok("audit", "--user=bob"); strings.Count(out, "\n") != 1 {
		t.Errorf("of another user it says:\n%s", out)
	}
	operator.fails(1, []string{"--limit"}, "audit", "--user=alice", "--limit=0")
	operator.fails(1, []string{"ghost"}, "audit", "--user=alice", "--app=ghost")
}
