//! A real Kubernetes control plane for Multibond's tests, demo and benches.
