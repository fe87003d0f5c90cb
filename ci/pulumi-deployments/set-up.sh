#!/bin/sh
# Sets up Pulumi Deployments for one stack in Pulumi Cloud: settings and schedules. For a fleet, run it for each stack.
# It needs a Pulumi CLI of 3.241 or later that is logged in. Copy it, put your repository, role and region into it, and
# run:
#   sh ci/pulumi-deployments/set-up.sh production
set -eu
stack=$1

# The anchor stack needs no cluster.
case $(pulumi config get role --stack "$stack" 2> /dev/null || true) in
  anchor) set -- ;;
  *) set -- --pre-run-command "aws eks update-kubeconfig --region eu-central-1 --name $stack --alias $stack" ;;
esac

# Previews a pull request, and deploys a merge; the paths are those that a deployment depends on. Credentials are
# short-lived: the role trusts Pulumi Cloud as its OIDC provider. In a fleet a merge deploys all stacks at once, in any
# order: each takes the next safe step towards the goal in its file, or waits.
pulumi deployment settings edit --stack "$stack" \
  --github-repo example/meshtrust --branch main --folder . \
  --preview-prs --push-to-deploy \
  --path-filter 'stacks/**' --path-filter '**.py' --path-filter Pulumi.yaml --path-filter requirements.txt \
  --oidc-aws-role-arn arn:aws:iam::123456789012:role/meshtrust-deployments \
  --oidc-aws-session-name meshtrust --oidc-aws-duration 1h \
  "$@"

# Deploys twice an hour, too: a rotation goes on when what it waited for is done, without another merge.
pulumi stack schedule new --stack "$stack" --kind raw --operation update --cron '13,43 * * * *' --yes
# Reports drift and does not repair it: renewals by cert-manager are not drift, and a person should look at an edited
# bundle.
pulumi stack schedule new --stack "$stack" --kind drift --cron '17 5,17 * * *' --yes
