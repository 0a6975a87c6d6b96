//! A model of the Kubernetes API server.
