"""A start of a run as an OpenTelemetry trace, for whoever asks for it (`--otel`); it needs the extra `otel`."""
