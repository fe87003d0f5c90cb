// Package objectstore serves S3's API for Pulumi's state, by gofakes3, from memory: what it holds ends with it.
package objectstore

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/spf13/cobra"
)

// NewCommand returns the program. It takes every signature for a valid one.
func NewCommand() *cobra.Command {
	var address string
	command := &cobra.Command{
		Use:           "s3",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, _ []string) error {
			return serve(command.Context(), address)
		},
	}
	command.Flags().StringVar(&address, "address", "", "address to listen on")
	return command
}

func serve(ctx context.Context, address string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           gofakes3.New(s3mem.New(), gofakes3.WithGlobalLog()).Server(),
		ReadHeaderTimeout: time.Minute,
	}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
