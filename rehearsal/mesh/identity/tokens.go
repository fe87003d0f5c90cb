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
	"k8s.io/apimachinery/pkg/util/validation"
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
func (reviewer tokens) identify(ctx context.Context, token []byte, requested string) (string, error) {
	reviewed, err := reviewer.review(ctx, token, certify.Audience)
	if err == nil && strings.Contains(reviewed.Error, "token audiences") {
		reviewed, err = reviewer.review(ctx, token)
	}
	if err != nil {
		return "", status.Errorf(codes.Internal, "error validating token for %s: %s", requested, err)
	}
	if reviewed.Error != "" {
		return "", status.Error(codes.InvalidArgument, reviewed.Error)
	}
	if !reviewed.Authenticated {
		return "", status.Error(codes.FailedPrecondition, "authentication token could not be authenticated")
	}
	parts := strings.Split(reviewed.User.Username, ":")
	if len(parts) != 4 || parts[0] != "system" {
		return "", status.Errorf(codes.InvalidArgument, "Username must be in form system:TYPE:NS:SA: %s", reviewed.User.Username)
	}
	for _, part := range parts[1:] {
		if len(validation.IsDNS1123Label(part)) > 0 {
			return "", status.Errorf(codes.InvalidArgument, "Not a label: %s", part)
		}
	}
	return reviewer.mesh.Name(parts[3], parts[2]), nil
}

func (reviewer tokens) review(
	ctx context.Context, token []byte, audiences ...string,
) (authenticationv1.TokenReviewStatus, error) {
	review := &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: string(token), Audiences: audiences},
	}
	response, err := reviewer.client.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	return response.Status, nil
}
