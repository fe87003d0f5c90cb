package admission

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Decide judges what the API server asks about. An error refuses it.
type Decide func(ctx context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error)

// Admit admits everything as it is.
func Admit(context.Context, *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	return &admissionv1.AdmissionResponse{Allowed: true}, nil
}

// Serve answers the API server's admission reviews on a listener, which it closes when the context ends.
func Serve(ctx context.Context, listener net.Listener, decide Decide) error {
	web := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
			answer(response, request, decide)
		}),
	}
	// Every call is a handshake of its own: over a connection that is open already the API server would go on to call a
	// webhook whose certificate it no longer trusts, and a rehearsal would not see what the next API server meets.
	web.SetKeepAlivesEnabled(false)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return web.Close()
	})
	return group.Wait()
}

func answer(response http.ResponseWriter, request *http.Request, decide Decide) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(request.Body).Decode(&review); err != nil || review.Request == nil {
		http.Error(response, "the body is no AdmissionReview", http.StatusBadRequest)
		return
	}
	decision, err := decide(request.Context(), review.Request)
	if err != nil {
		decision = &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: err.Error()}}
	}
	decision.UID = review.Request.UID
	response.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(response).Encode(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Response: decision,
	})
}
