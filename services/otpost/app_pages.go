package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/otpost/otpost/pkg/postgres"
)

type appPagesCmd struct {
	Set    appPagesSetCmd    `cmd:"" default:"withargs" help:"Set what is named and leave the rest."`
	Show   appPagesShowCmd   `cmd:"" help:"Show how an app's pages look and where they lead back to."`
	Remove appPagesRemoveCmd `cmd:"" help:"Take an app's pages away."`
}

// Help tells what may be allowed.
func (appPagesCmd) Help() string {
	return `An app has hosted pages once it is said where they may lead back to. Each --return-url is an origin, https://shop.example, which allows all its paths;
or an origin and a path that ends with a slash, https://shop.example/login/, which allows what lies below; or an origin and another path, which allows that one.
Any query is allowed. It must be of https, or of http on this machine.`
}

type appPagesSetCmd struct {
	appFlags
	ReturnURL []string `name:"return-url" placeholder:"URL" help:"Where pages may lead back to; may be given more than once, and replaces all that were allowed before."`
	Accent    *string  `help:"Colour, such as #0a7d4f. Empty for the house's own."`
	Logo      *string  `placeholder:"FILE" help:"PNG or SVG, at most 64 KiB; it is shown as a picture and runs nothing. Empty for none."`
}

// Run sets how pages look.
func (c *appPagesSetCmd) Run(r *run) error {
	if len(c.ReturnURL) == 0 && c.Accent == nil && c.Logo == nil {
		return errors.New("nothing to set: name at least one setting, such as --return-url=https://shop.example/")
	}
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		store := postgres.NewPages(db)
		p, err := store.Get(r.ctx, a.ID)
		if err != nil && !errors.Is(err, postgres.ErrNoPages) {
			return err
		}
		p.AppID = a.ID
		if len(c.ReturnURL) > 0 {
			p.ReturnURLs = c.ReturnURL
		}
		if c.Accent != nil {
			p.Accent = strings.ToLower(*c.Accent)
		}
		if c.Logo != nil {
			if p.Logo, err = readLogo(*c.Logo); err != nil {
				return fmt.Errorf("--logo: %w", err)
			}
			p.LogoType = postgres.LogoKind(p.Logo)
		}
		if err := p.Check(); err != nil {
			return fmt.Errorf("--%w", err)
		}
		if err := store.Set(r.ctx, time.Now(), p); err != nil {
			return err
		}
		return showPages(r.stdout, a, p)
	})
}

// readLogo reads a picture, and no more of a file than it takes to see that it is too large.
func readLogo(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, postgres.MaxLogo+1))
	if err != nil {
		return nil, err
	}
	if len(b) == 0 || len(b) <= postgres.MaxLogo && postgres.LogoKind(b) == "" {
		return nil, errors.New("must be a PNG or SVG file")
	}
	return b, nil
}

func showPages(w io.Writer, a postgres.App, p postgres.AppPages) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "name\t%s\n", a.Name)
	for _, u := range p.ReturnURLs {
		fmt.Fprintf(t, "return-url\t%s\n", u)
	}
	fmt.Fprintf(t, "accent\t%s\n", dash(p.Accent))
	logo := "-"
	if len(p.Logo) > 0 {
		logo = fmt.Sprintf("%s, %d bytes", p.LogoType, len(p.Logo))
	}
	fmt.Fprintf(t, "logo\t%s\n", logo)
	return t.Flush()
}

type appPagesShowCmd struct{ appFlags }

// Run shows how pages look.
func (c *appPagesShowCmd) Run(r *run) error {
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		p, err := postgres.NewPages(db).Get(r.ctx, a.ID)
		if err != nil {
			return fmt.Errorf("%s: %w", a.Name, err)
		}
		return showPages(r.stdout, a, p)
	})
}

type appPagesRemoveCmd struct{ appFlags }

// Run takes pages away.
func (c *appPagesRemoveCmd) Run(r *run) error {
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		if err := postgres.NewPages(db).Remove(r.ctx, a.ID); err != nil {
			return fmt.Errorf("%s: %w", a.Name, err)
		}
		_, err := fmt.Fprintf(r.stdout, "app %s has no pages any more\n", a.Name)
		return err
	})
}
