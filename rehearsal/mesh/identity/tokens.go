package identity

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshtrust/rehearsal/mesh/certify"
)

// tokens turns service account tokens into identities (linkerd2 controller/identity/validator.go).
type tokens struct {
	client kubernetes.Interface
	mesh   certify.Mesh
}

// checkAccess fails where the service account of the identity service may not review tokens.
func (reviewer tokens) checkAccess(ctx context.Context) error {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: "authentication.k8s.io", Version: "v1", Resource: "tokenreviews", Verb: "create",
		},
	}}
	response, err := reviewer.client.AuthorizationV1().SelfSubjectAccessReviews().
		Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if !response.Status.Allowed {
		return fmt.Errorf("Unable to create kubernetes token reviews: %s", response.Status.Reason) //nolint:staticcheck // the real message
	}
	return nil
}

// identify returns the identity that a token proves, or an error with the code that a proxy gets.
func (reviewer tokens) identify(ctx context.Context, token []byte) (string, error) {
	review := &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: string(token), Audiences: []string{certify.Audience}},
	}
	response, err := reviewer.client.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return "", status.Errorf(codes.Internal, "error validating token: %s", err)
	}
	if response.Status.Error != "" {
		return "", status.Error(codes.InvalidArgument, response.Status.Error)
	}
	if !response.Status.Authenticated {
		return "", status.Error(codes.FailedPrecondition, "authentication token could not be authenticated")
	}
	user := response.Status.User.Username
	parts := strings.Split(user, ":")
	if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" {
		return "", status.Errorf(codes.InvalidArgument, "Username must be in form system:TYPE:NS:SA: %s", user)
	}
	return reviewer.mesh.Name(parts[3], parts[2]), nil
}
