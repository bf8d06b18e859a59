"""What the gateway tells of its work: metrics for Prometheus, traces for OpenTelemetry, a log line for each call."""
