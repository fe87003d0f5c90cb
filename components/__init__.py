"""The parts of the deployment, one component resource and its arguments per file."""
