#!/bin/sh
# Settings and schedule of Pulumi Deployments for one stack, in Pulumi Cloud; for a fleet, run it once for each stack.
# It takes a Pulumi CLI of 3.241 or later, logged in. Copy it, and put your repository, role, region and cluster into it:
#   sh ci/pulumi-deployments/set-up.sh production
set -eu
stack=$1

# The anchor stack touches no cluster, and needs no way to one.
case $(pulumi config get role --stack "$stack" 2> /dev/null || true) in
  anchor) set -- ;;
  *) set -- --pre-run-command "aws eks update-kubeconfig --region eu-central-1 --name $stack --alias $stack" ;;
esac

# A pull request is previewed, a merge is deployed; the paths are those that a deployment depends on. Credentials are
# short-lived: Pulumi Cloud is the OIDC provider that the role trusts. A fleet's stacks are deployed in an order that
# this does not keep: leave --push-to-deploy off there (docs/ci.md, A fleet).
pulumi deployment settings edit --stack "$stack" \
  --github-repo example/meshtrust --branch main --folder . \
  --preview-prs --push-to-deploy \
  --path-filter 'stacks/**' --path-filter '**.py' --path-filter Pulumi.yaml --path-filter requirements.txt \
  --oidc-aws-role-arn arn:aws:iam::123456789012:role/meshtrust-deployments \
  --oidc-aws-session-name meshtrust --oidc-aws-duration 1h \
  "$@"

# Drift is told, and not put right: what cert-manager renews is none, and a bundle that was edited wants a look first.
pulumi stack schedule new --stack "$stack" --kind drift --cron '17 5,17 * * *' --yes
