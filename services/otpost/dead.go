package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/lifecycle"
)

type deadCmd struct {
	List  deadListCmd  `cmd:"" help:"List dead letters, oldest first."`
	Show  deadShowCmd  `cmd:"" help:"Show one, with its message."`
	Retry deadRetryCmd `cmd:"" help:"Put dead letters back where they were published."`
	Drop  deadDropCmd  `cmd:"" help:"Remove dead letters for good."`
}

// operatorFlags connect to NATS as the operator.
type operatorFlags struct {
	natsFlags
	Wait time.Duration `default:"10s" help:"How long to wait for NATS."`
}

func (f operatorFlags) with(r *run, fn func(context.Context, *bus.Bus) error) error {
	ctx, cancel := context.WithTimeout(r.ctx, f.Wait)
	defer cancel()
	b, err := f.connect(bus.RoleOperator, r.log, nil)
	if err != nil {
		return fmt.Errorf("--nats-url: %w", err)
	}
	defer func() { _ = b.Close(context.WithoutCancel(ctx)) }()
	if err := lifecycle.Backoff(ctx, r.log, "reaching NATS", func(context.Context) error { return b.Connected() }); err != nil {
		return err
	}
	return fn(r.ctx, b)
}

type deadListCmd struct {
	operatorFlags
	From  uint64 `help:"Begin with this one."`
	Limit int    `default:"100" help:"Most to list."`
}

// Run lists dead letters.
func (c *deadListCmd) Run(r *run) error {
	return c.with(r, func(ctx context.Context, b *bus.Bus) error {
		letters, all, err := b.DeadLetters(ctx, c.From, c.Limit)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		if len(letters) > 0 {
			fmt.Fprintln(w, "ID\tSUBJECT\tTRIES\tFIRST\tLAST\tBYTES\tREASON")
		}
		for _, l := range letters {
			fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\t%d\t%s\n", l.ID, l.Subject, l.Tries, l.First.Format(time.DateTime), l.Last.Format(time.DateTime), l.Size, l.Reason)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		_, err = fmt.Fprintf(r.stdout, "%d of %d dead letters\n", len(letters), all)
		return err
	})
}

type deadShowCmd struct {
	operatorFlags
	ID uint64 `arg:"" help:"Its number, as otpost dead list shows it."`
}

// Run shows one dead letter.
func (c *deadShowCmd) Run(r *run) error {
	return c.with(r, func(ctx context.Context, b *bus.Bus) error {
		l, err := b.DeadLetter(ctx, c.ID)
		if err != nil {
			return fmt.Errorf("%d: %w", c.ID, err)
		}
		w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "id\t%d\nstream\t%s\nsubject\t%s\nreason\t%s\ntries\t%d\nfirst\t%s\nlast\t%s\nbytes\t%d\n", l.ID, l.Stream, l.Subject, l.Reason, l.Tries,
			l.First.Format(time.RFC3339Nano), l.Last.Format(time.RFC3339Nano), l.Size)
		if err := w.Flush(); err != nil {
			return err
		}
		if l.Truncated {
			fmt.Fprintf(r.stdout, "only the first %d bytes were kept\n", len(l.Body))
		}
		_, err = fmt.Fprintf(r.stdout, "\n%s\n", printable(l.Body))
		return err
	})
}

// printable keeps a message from playing with the operator's terminal.
func printable(b []byte) string {
	out := make([]rune, 0, len(b))
	for len(b) > 0 {
		c, n := utf8.DecodeRune(b)
		if c != '\n' && c != '\t' && (!unicode.IsPrint(c) || c == utf8.RuneError) {
			c = '·'
		}
		out, b = append(out, c), b[n:]
	}
	return string(out)
}

type deadRetryCmd struct {
	operatorFlags
	IDs []uint64 `arg:"" name:"id" help:"Their numbers."`
}

// Run puts dead letters back.
func (c *deadRetryCmd) Run(r *run) error {
	return c.with(r, func(ctx context.Context, b *bus.Bus) error {
		for _, id := range c.IDs {
			l, err := b.RetryDead(ctx, id)
			if err != nil {
				return fmt.Errorf("%d: %w", id, err)
			}
			fmt.Fprintf(r.stdout, "%d is back on %s\n", id, l.Subject)
			if l.Stream == bus.StreamLogins && time.Since(l.First) > event.MaxClockSkew {
				fmt.Fprintln(r.stdout, "  its login is too old to be decided: the app will be told that it was refused")
			}
		}
		return nil
	})
}

type deadDropCmd struct {
	operatorFlags
	IDs []uint64 `arg:"" name:"id" help:"Their numbers."`
}

// Run drops dead letters.
func (c *deadDropCmd) Run(r *run) error {
	return c.with(r, func(ctx context.Context, b *bus.Bus) error {
		for _, id := range c.IDs {
			if err := b.DropDead(ctx, id); err != nil {
				return fmt.Errorf("%d: %w", id, err)
			}
			fmt.Fprintf(r.stdout, "%d is gone\n", id)
		}
		return nil
	})
}
